"""`FitOptions`: how to train."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from retrank.core.errors import ConfigError
from retrank.optim.spec import OptimizerSpec
from retrank.training.callbacks import Callback
from retrank.training.device import Precision, autocast

__all__ = ["FitOptions", "as_callbacks"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """The arguments of `Model.fit`, checked.

    Args:
        optimizer: how weights are updated.
        epochs: passes in total.
        validation_every: epochs from one validation to the next.
        schedule: makes a learning-rate schedule for the optimizer.
        callbacks: what else happens after an epoch.
        clip_norm: the largest norm of all gradients together.
        precision: of the forward passes.
        device: where to train.
        seed: of torch's generators.
        checkpoint: the directory of the checkpoint.
        checkpoint_every: steps from one checkpoint to the next.
        resume: whether to continue from the directory.
        progress: whether to show progress.

    Raises:
        ConfigError: a value of another type or out of range, or an option that would do nothing.
    """

    optimizer: OptimizerSpec
    epochs: int
    validation_every: int
    schedule: Callable[[Optimizer], LRScheduler] | None
    callbacks: tuple[Callback, ...]
    clip_norm: float | None
    precision: Precision
    device: str | torch.device
    seed: int
    checkpoint: Path | None
    checkpoint_every: int | None
    resume: bool
    progress: bool

    def __post_init__(self) -> None:
        for name in ("epochs", "validation_every", "checkpoint_every", "clip_norm"):
            value = getattr(self, name)
            kinds = int | float if name == "clip_norm" else int
            if value is not None and not (isinstance(value, kinds) and value > 0):
                kind = "a number" if name == "clip_norm" else "an integer"
                raise ConfigError(f"{kind} above 0 for {name}", repr(value), "fit")
        if self.checkpoint_every is not None and self.checkpoint is None:
            raise ConfigError("a checkpoint directory", "none", "checkpoint_every of fit", "pass checkpoint= too")
        if not isinstance(self.optimizer, OptimizerSpec):
            raise ConfigError(
                "the settings of an optimizer, which fit builds", _kind(self.optimizer), "optimizer of fit",
                "pass e.g. rr.optim.Adagrad(lr=0.1)",
            )  # fmt: skip
        if self.schedule is not None and not callable(self.schedule):
            raise ConfigError(
                "a function from an optimizer to a torch schedule", _kind(self.schedule), "schedule of fit",
                "pass e.g. rr.training.linear_decay(1_000)",
            )  # fmt: skip
        autocast(torch.device("cpu"), self.precision)


def as_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Check the callbacks of a fit.

    Args:
        callbacks: what was passed.

    Returns:
        The callbacks.

    Raises:
        ConfigError: no sequence, or an entry that is none.
    """
    if not isinstance(callbacks, Iterable):
        raise ConfigError("a sequence of callbacks", _kind(callbacks), "callbacks of fit", "put it in a list")
    listed = tuple(callbacks)
    for callback in listed:
        if not isinstance(callback, Callback):
            raise ConfigError(
                "callbacks", _kind(callback), "callbacks of fit", 'pass e.g. [rr.training.EarlyStopping("val_loss")]'
            )
    return listed


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
