"""Callbacks: what happens between the epochs of a `fit`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from retrank.core.directories import ensure_replaceable
from retrank.core.errors import ConfigError
from retrank.core.extras import optional
from retrank.core.files import write_text
from retrank.training.checkpoint import load_weights, save_weights
from retrank.training.history import Mode, look_up
from retrank.training.run import Run

__all__ = ["BestCheckpoint", "CSVLog", "Callback", "EarlyStopping", "TensorBoardLog"]


class Callback(ABC):
    """Called after every epoch. The other hooks do nothing unless overridden.

    A callback that remembers something returns it from `state_dict`, so that a resumed run continues as if it had
    never stopped.
    """

    def on_fit_start(self, run: Run) -> None:  # noqa: B027
        """Prepare; a resumed run has its state and history already.

        Args:
            run: the fit that begins.
        """

    @abstractmethod
    def on_epoch_end(self, run: Run, row: Mapping[str, float]) -> None:
        """Handle the end of an epoch.

        Args:
            run: the fit; `run.stop(reason)` ends it.
            row: the epoch's numbers, as in `TrainingHistory`; it is the last row of `run.history`.
        """

    def on_fit_end(self, run: Run) -> None:  # noqa: B027
        """Clean up after the last epoch; not called if training fails.

        Args:
            run: the fit that ends.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what to remember in a checkpoint: numbers, strings and tensors, arbitrarily nested."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `state_dict` returned.

        Args:
            state: the saved values.
        """


class _Best:
    """The best value so far of one monitored number."""

    def __init__(self, monitor: str, mode: Mode | None, where: str) -> None:
        if mode not in (None, "min", "max"):
            raise ConfigError(
                "'min' or 'max'",
                repr(mode),
                f"mode of {where}",
                "say which values are better: mode='min' or mode='max'",
            )
        self.monitor, self.mode, self.where = monitor, mode, where
        self.value: float | None = None

    def check(self, run: Run) -> None:
        run.history.mode_of(self.monitor, self.mode, self.where)
        if self.monitor.startswith("val_") and not run.validates:
            raise ConfigError(
                "validation data",
                "none",
                f"{self.where} of '{self.monitor}'",
                "pass validation= to fit or monitor 'loss'",
            )

    def update(self, run: Run, row: Mapping[str, float]) -> bool | None:
        """Return whether the epoch is better than all before; None if it was not validated."""
        validated = any(name.startswith("val_") for name in row)
        if self.monitor.startswith("val_") and run.validates and not validated:
            return None
        value = look_up(row, self.monitor, self.where)
        mode = run.history.mode_of(self.monitor, self.mode, self.where)
        better = self.value is None or (value < self.value if mode == "min" else value > self.value)
        better = better and not math.isnan(value)
        if better:
            self.value = value
        return better


@final
class EarlyStopping(Callback):
    """Stops when a number has not improved for some epochs.

    Args:
        monitor: the number, as it is called in `TrainingHistory`.
        mode: whether a smaller or a larger value is better; None asks the metric, see `Metric.larger_is_better`.
        patience: epochs without improvement, of those that have the number, after which training stops.
        restore_best: whether the model ends with the weights of the best epoch instead of the last.

    Raises:
        ConfigError: before the first epoch, if a mode is needed since no metric says which values are better; at the
            end of it, if it has no such number. The message lists what there is.

    Example:
        >>> import retrank as rr
        >>> rr.training.EarlyStopping("val_ndcg@10", patience=2).patience
        2
    """

    def __init__(
        self, monitor: str = "val_loss", *, mode: Mode | None = None, patience: int = 3, restore_best: bool = True
    ) -> None:
        if patience < 1:
            raise ConfigError("patience >= 1", str(patience), "EarlyStopping")
        self._best = _Best(monitor, mode, "EarlyStopping")
        self.patience, self.restore_best = patience, restore_best
        self._waited = 0
        self._weights: dict[str, Tensor] | None = None

    def on_fit_start(self, run: Run) -> None:
        """Check that the monitored number can exist; a new fit starts without a best epoch."""
        self._best.check(run)
        if run.epoch == 0:
            self._best.value, self._waited, self._weights = None, 0, None

    def on_epoch_end(self, run: Run, row: Mapping[str, float]) -> None:
        """Keep the weights of a better epoch, or count it towards `patience`."""
        better = self._best.update(run, row)
        if better is None:
            return
        self._waited = 0 if better else self._waited + 1
        if better and self.restore_best:
            self._weights = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
        if self._waited >= self.patience:
            run.stop(f"{self._best.monitor} has not improved for {self.patience} epochs")

    def on_fit_end(self, run: Run) -> None:
        """Give the model the weights of the best epoch."""
        if self._weights is not None:
            run.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its weights."""
        return {"best": self._best.value, "waited": self._waited, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best.value, self._waited, self._weights = state["best"], state["waited"], state["weights"]


@final
class BestCheckpoint(Callback):
    """Keeps the weights of the best epoch in a directory.

    Args:
        directory: where; replaced as a whole by every better epoch.
        monitor: the number to judge by, as it is called in `TrainingHistory`.
        mode: whether a smaller or a larger value is better; None asks the metric, see `Metric.larger_is_better`.

    Raises:
        StorageError: before the first epoch, if the directory holds other files.
        ConfigError: before the first epoch, if a mode is needed since no metric says which values are better; at the
            end of it, if it has no such number. The message lists what there is.
    """

    def __init__(self, directory: str | Path, monitor: str = "val_loss", *, mode: Mode | None = None) -> None:
        self.directory = Path(directory)
        self._best = _Best(monitor, mode, "BestCheckpoint")

    def on_fit_start(self, run: Run) -> None:
        """Check that the monitored number can exist and the directory be written; a new fit has no best epoch."""
        self._best.check(run)
        ensure_replaceable(self.directory)
        if run.epoch == 0:
            self._best.value = None

    def on_epoch_end(self, run: Run, row: Mapping[str, float]) -> None:
        """Write the weights of a better epoch."""
        if self._best.update(run, row):
            save_weights(self.directory, run.model, row)

    def restore(self, model: nn.Module) -> dict[str, float]:
        """Load the best weights.

        Args:
            model: receives them.

        Returns:
            The numbers of the best epoch.
        """
        return load_weights(self.directory, model)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value."""
        return {"best": self._best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best.value = state["best"]


@final
class CSVLog(Callback):
    """Writes the history to a CSV file after every epoch, as a whole, so that a resumed run leaves no double rows.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_epoch_end(self, run: Run, row: Mapping[str, float]) -> None:  # noqa: ARG002
        """Write the file."""
        write_text(self.path, run.history.frame.write_csv())


@final
class TensorBoardLog(Callback):
    """Writes every number of every epoch for TensorBoard. Needs `retrank[tensorboard]`.

    Args:
        directory: where its event files go.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._tensorboard = optional("torch.utils.tensorboard", extra="tensorboard")

    def on_fit_start(self, run: Run) -> None:
        """Open the event file; what a killed run wrote after its checkpoint is hidden."""
        self._writer = self._tensorboard.SummaryWriter(str(self.directory), purge_step=run.epoch + 1)

    def on_epoch_end(self, run: Run, row: Mapping[str, float]) -> None:  # noqa: ARG002
        """Write the epoch."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def on_fit_end(self, run: Run) -> None:  # noqa: ARG002
        """Close the event file."""
        self._writer.close()
