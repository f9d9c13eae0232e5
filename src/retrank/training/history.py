"""`TrainingHistory`: what every epoch of a `fit` measured."""

import math
from collections.abc import Iterator, Mapping
from typing import Final, Literal, final

import polars as pl

from retrank.core.errors import ConfigError

__all__ = ["Mode", "TrainingHistory", "look_up"]

Mode = Literal["min", "max"]
"""Whether a smaller or a larger value is better."""

_LOSSES: Final = dict.fromkeys(("loss", "regularization_loss", "total_loss"), False)


@final
class TrainingHistory:
    """One row of numbers per epoch, in order.

    A row holds `epoch` (from 1), the training averages `loss`, `regularization_loss` and `total_loss`, the training
    metrics of the tasks, and the same with the prefix `val_` if that epoch was validated.

    Args:
        rows: the rows so far.
        seconds: how long each epoch took; a measurement, so it is no part of equality.
        larger_is_better: name, without `val_`, to whether a larger value is better, where that is known; of losses it
            always is. No part of equality either.

    Example:
        >>> import retrank as rr
        >>> history = rr.training.TrainingHistory([{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.7}])
        >>> history["loss"], history.best("loss")["epoch"], len(history)
        ([0.9, 0.7], 2, 2)
    """

    def __init__(
        self,
        rows: list[dict[str, float]] | None = None,
        seconds: list[float] | None = None,
        larger_is_better: Mapping[str, bool] | None = None,
    ) -> None:
        self.rows = rows if rows is not None else []
        self.seconds = seconds if seconds is not None else []
        self._larger_is_better = dict(_LOSSES if larger_is_better is None else larger_is_better)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainingHistory) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __getitem__(self, name: str) -> list[float]:
        """Return the values of one column, of the epochs that have it."""
        values = [row[name] for row in self.rows if name in row]
        if self.rows and not values:
            look_up(self.rows[-1], name, "TrainingHistory")
        return values

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={value:.4g}" for name, value in self.rows[-1].items()) if self.rows else "empty"
        return f"TrainingHistory({last})"

    def append(self, row: dict[str, float], seconds: float) -> None:
        """Add an epoch.

        Args:
            row: its numbers.
            seconds: how long it took.
        """
        self.rows.append(row)
        self.seconds.append(seconds)

    def best(self, monitor: str, mode: Mode | None = None) -> dict[str, float]:
        """Return the row of the best epoch.

        Args:
            monitor: the column to judge by.
            mode: whether a smaller or a larger value is better; None asks the metric.

        Returns:
            The first row with the best value; NaN is never the best.

        Raises:
            ConfigError: no epoch has this column, or a mode is needed since the metric does not say what is better.
        """
        rows = [row for row in self.rows if monitor in row]
        if not rows:
            look_up(self.rows[-1] if self.rows else {}, monitor, "TrainingHistory.best")
        sign = 1 if self.mode_of(monitor, mode, "TrainingHistory.best") == "min" else -1
        return min(rows, key=lambda row: (math.isnan(row[monitor]), sign * row[monitor]))

    def mode_of(self, monitor: str, mode: Mode | None, where: str) -> Mode:
        """Say whether a smaller or a larger value of a column is better.

        Args:
            monitor: the column.
            mode: what the caller says, if anything.
            where: the caller, for the error message.

        Returns:
            The caller's mode, or else that of the metric.

        Raises:
            ConfigError: neither is given, or another word is.
        """
        if mode is None:
            larger = self._larger_is_better.get(monitor.removeprefix("val_"))
            if larger is not None:
                return "max" if larger else "min"
            known = sorted(f"{prefix}{name}" for name in self._larger_is_better for prefix in ("", "val_"))
            raise ConfigError(
                f"mode='min' or mode='max', as it is known only of {known} which values are better",
                f"'{monitor}' without a mode",
                f"the monitor of {where}",
                "say mode='max' if a larger value is better; a metric of your own says so by `larger_is_better`",
            )
        if mode not in ("min", "max"):
            raise ConfigError("'min' or 'max'", repr(mode), f"mode of {where}", "say which values are better")
        return mode

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as a table; null where an epoch was not validated."""
        return pl.DataFrame(self.rows, infer_schema_length=None)


def look_up(row: Mapping[str, float], name: str, where: str) -> float:
    """Return a value of an epoch.

    Args:
        row: the epoch's numbers.
        name: which of them.
        where: the caller, for the error message.

    Returns:
        The value.

    Raises:
        ConfigError: the epoch has no such value; the message lists those that it has.
    """
    if name not in row:
        raise ConfigError(f"one of {sorted(set(row) - {'epoch'})}", repr(name), f"the monitor of {where}")
    return row[name]
