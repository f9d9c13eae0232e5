"""The training loop: epochs, steps, checkpoints. It knows a `Trainable` and no concrete model."""

import json
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any, final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from retrank.core.allocator import retain_freed_memory
from retrank.core.batch import Batch
from retrank.core.config import Configurable, to_config
from retrank.core.directories import ensure_replaceable
from retrank.core.errors import ConfigError
from retrank.core.tensor_files import load_weights_of
from retrank.core.values import built_from
from retrank.data.batches import Batches
from retrank.training.checkpoint import has_checkpoint, shapes, write_checkpoint
from retrank.training.device import resolve_device
from retrank.training.epoch_sums import EpochSums
from retrank.training.evaluation import evaluate
from retrank.training.history import TrainingHistory
from retrank.training.interrupts import Interrupts
from retrank.training.options import FitOptions
from retrank.training.preparation import known_rows, materialize
from retrank.training.progress import Progress
from retrank.training.run import Run
from retrank.training.saved_run import RunState, read_run, state_file
from retrank.training.task_metrics import (
    larger_is_better,
    load_metric_state,
    metric_results,
    metric_state,
    reset_metrics,
)
from retrank.training.trainable import Trainable

__all__ = ["Loop"]


@final
class Loop:
    """One call of `Model.fit`.

    Args:
        model: what is trained.
        batches: on what.
        validation: on what it is evaluated after an epoch, if at all.
        options: how.
    """

    def __init__(self, model: Trainable, batches: Batches, validation: Batches | None, options: FitOptions) -> None:
        self._model, self._batches, self._validation, self._options = model, batches, validation, options
        self._device = resolve_device(options.device)
        model.to(self._device)
        materialize(model, batches)
        optimizer = options.optimizer.build(model.named_parameters())
        self._configuration = self._describe(optimizer)
        self._schedule = None if options.schedule is None else options.schedule(optimizer)
        if isinstance(self._schedule, ReduceLROnPlateau) or not isinstance(self._schedule, LRScheduler | None):
            raise ConfigError(
                "a schedule of steps",
                type(self._schedule).__name__,
                "schedule of fit",
                "use a schedule that changes by steps, or a callback",
            )
        self._larger_is_better = larger_is_better(model)
        self._run = Run(model, optimizer, options.epochs, validates=validation is not None)
        self._run.history = TrainingHistory(larger_is_better=self._larger_is_better)
        self._sums = EpochSums(self._device)
        self._trained: dict[str, float] | None = None  # the training half of the row of an epoch in validation
        self._validation_start = None if validation is None else validation.state_dict()
        self._is_whole = True  # between two steps, where a checkpoint may be taken
        self._interrupts = Interrupts()
        self._progress = Progress(enabled=options.progress, epochs=options.epochs, num_rows=known_rows(batches))

    def fit(self) -> TrainingHistory:
        """Train until all epochs are done or a callback stops it.

        Returns:
            The numbers of every epoch.
        """
        run, devices = self._run, [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), retain_freed_memory(), self._progress, self._interrupts:
            torch.manual_seed(self._options.seed)
            reset_metrics(self._model)
            try:
                self._begin()
                self._resume()
                for callback in self._options.callbacks:
                    callback.on_fit_start(run)
                self._run_epochs()
            finally:
                self._model.end_fit()
            if run.stop_reason is not None:
                self._progress.note(f"stopped after epoch {run.epoch}: {run.stop_reason}")
            for callback in self._options.callbacks:
                callback.on_fit_end(run)
        return run.history

    def _run_epochs(self) -> None:
        try:
            while not self._run.is_done:
                self._run_epoch()
        except KeyboardInterrupt as interrupt:
            self._leave(interrupt)
            raise

    def _begin(self) -> None:
        epoch = self._read_once()
        try:
            self._model.begin_fit(epoch)
        finally:
            epoch.close()

    def _read_once(self) -> Generator[Batch]:
        """Yield an epoch of batches without moving the loader."""
        position = self._batches.state_dict()
        self._progress.begin("counting ids")
        try:
            for batch in self._batches:
                self._interrupts.check()
                self._progress.advance(len(batch))
                yield batch
        finally:
            self._batches.load_state_dict(position)

    def _run_epoch(self) -> None:
        run, start = self._run, time.perf_counter()
        if self._trained is None:
            self._trained = self._train()
        row = {"epoch": run.epoch + 1, **self._trained, **self._validate()}
        self._is_whole = False
        run.epoch += 1
        run.history.append(row, time.perf_counter() - start)
        for callback in self._options.callbacks:
            callback.on_epoch_end(run, row)
        self._trained = None
        self._is_whole = True
        self._progress.end(row, run.history.seconds[-1])
        self._save()

    def _train(self) -> dict[str, float]:
        run, options = self._run, self._options
        self._model.train(True)
        self._progress.begin(f"epoch {run.epoch + 1}/{run.epochs}")
        for batch in self._batches:
            self._is_whole = False
            losses = self._model.train_step(
                batch.to(self._device, non_blocking=True),
                run.optimizer,
                precision=options.precision,
                clip_norm=options.clip_norm,
            )
            self._step_schedule()
            run.step += 1
            self._sums.add(losses, len(batch), run.step)
            self._is_whole = True
            if self._progress.advance(len(batch)):
                self._sums.check(run.epoch + 1)
                self._progress.describe(f"epoch {run.epoch + 1}/{run.epochs}  loss {self._sums.averages()['loss']:.4g}")
            self._interrupts.check()
            if options.checkpoint_every is not None and run.step % options.checkpoint_every == 0:
                self._save()
        self._sums.check(run.epoch + 1)
        row = {**self._sums.averages(), **metric_results(self._model)}
        self._model.end_epoch()
        reset_metrics(self._model)
        self._sums = EpochSums(self._device)
        return row

    def _step_schedule(self) -> None:
        if self._schedule is not None:
            with warnings.catch_warnings():  # torch does not know the steps that were done before a resume
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self._schedule.step()

    def _validate(self) -> dict[str, float]:
        epoch = self._run.epoch + 1
        if self._validation is None or (epoch % self._options.validation_every and epoch < self._run.epochs):
            return {}
        self._progress.describe(f"epoch {epoch}/{self._run.epochs}  validation")
        results = evaluate(
            self._model,
            self._validation,
            precision=self._options.precision,
            after_batch=lambda _: self._interrupts.check(),
        )
        self._validation_start = self._validation.state_dict()  # an interrupted evaluation starts over
        return {f"val_{name}": value for name, value in results.items()}

    def _leave(self, interrupt: KeyboardInterrupt) -> None:
        """Save, and add a note to the exception on how to continue: the caller may have a better way to say so."""
        directory = self._options.checkpoint
        if directory is None:
            return
        if self._is_whole:
            self._save()
        interrupt.add_note(
            f"interrupted after step {self._run.step}; to continue from there, call fit again with the same arguments "
            f"and checkpoint={str(directory)!r}"
            if self._is_whole
            else f"interrupted within a step; {directory} keeps the checkpoint before it"
        )

    def _save(self) -> None:
        if self._options.checkpoint is None:
            return
        self._sums.check(self._run.epoch + 1)
        write_checkpoint(self._options.checkpoint, self._state(), self._configuration)

    def _resume(self) -> None:
        directory = self._options.checkpoint
        if directory is None or not has_checkpoint(directory):
            return
        if not self._options.resume:
            ensure_replaceable(directory)
            return
        state = read_run(directory, self._configuration)
        if state["epoch"] > self._options.epochs:
            raise ConfigError(
                f"at least the {state['epoch']} epochs that are done",
                str(self._options.epochs),
                f"epochs of fit with the checkpoint {directory}",
                "ask for more epochs, use another directory, or pass resume=False to start over",
            )
        with built_from(state_file(directory)):
            self._load(state, state_file(directory))
        self._progress.note(
            f"{directory} holds the end of this training"
            if self._run.is_done
            else f"resumed from {directory} after step {self._run.step} in epoch {self._run.epoch + 1}"
        )

    def _state(self) -> RunState:
        run = self._run
        return {
            "epoch": run.epoch,
            "step": run.step,
            "stop_reason": run.stop_reason,
            "history": {"rows": run.history.rows, "seconds": run.history.seconds},
            "trained": self._trained,
            "sums": self._sums.state_dict(),
            "metrics": metric_state(self._model),
            "model": self._model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "batches": self._batches.state_dict(),
            "validation": self._validation_start,
            "callbacks": [(type(callback).__name__, callback.state_dict()) for callback in self._options.callbacks],
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
            },
        }

    def _load(self, state: RunState, where: str) -> None:
        run = self._run
        run.epoch, run.step, run.stop_reason = state["epoch"], state["step"], state["stop_reason"]
        run.history = TrainingHistory(**state["history"], larger_is_better=self._larger_is_better)
        self._trained = state["trained"]
        self._sums.load_state_dict(state["sums"])
        load_metric_state(self._model, state["metrics"])
        load_weights_of(self._model, state["model"], where)
        run.optimizer.load_state_dict(state["optimizer"])
        if self._schedule is not None and state["schedule"] is not None:
            self._schedule.load_state_dict(state["schedule"])
        self._batches.load_state_dict(state["batches"])
        if self._validation is not None and state["validation"] is not None:
            self._validation.load_state_dict(state["validation"])
            self._validation_start = state["validation"]
        saved: dict[str, list[dict[str, Any]]] = {}
        for name, content in state["callbacks"]:
            saved.setdefault(name, []).append(content)
        for callback in self._options.callbacks:  # by name and order: an added log does not change the configuration
            if left := saved.get(type(callback).__name__):
                callback.load_state_dict(left.pop(0))
        torch.set_rng_state(state["random"]["cpu"])
        if state["random"]["cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self._device)

    def _describe(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be continued."""
        groups = [
            {
                name: value if isinstance(value, bool | int | float | str) else repr(value)
                for name, value in group.items()
            }
            for group in ({**group, "params": len(group["params"])} for group in optimizer.param_groups)
        ]
        options = self._options
        return {
            "model": _describe_model(self._model),
            "parameters": shapes(self._model),
            "batches": _describe_batches(self._batches),
            "optimizer": {"type": type(optimizer).__name__, "groups": groups},
            "schedule": None if options.schedule is None else getattr(options.schedule, "__qualname__", "schedule"),
            "seed": options.seed,
            "precision": options.precision,
            "clip_norm": options.clip_norm,
        }


def _describe_model(model: Trainable) -> Any:
    """Return the type of a model, and its arguments if they have a configuration."""
    if isinstance(model, Configurable):
        try:
            return json.loads(json.dumps(to_config(model)), parse_constant=str)  # no JSON file holds an infinity
        except ConfigError:
            pass
    return {"type": type(model).__qualname__}


def _describe_batches(batches: Batches) -> dict[str, Any]:
    describe: Callable[[], dict[str, Any]] | None = getattr(batches, "describe", None)
    return {"num_rows": known_rows(batches), **({} if describe is None else describe())}
