"""`TrainingHistory`: what every epoch of a `fit` measured."""

from collections.abc import Iterator, Mapping
from typing import Literal, final

import polars as pl

from retrank.core.errors import ConfigError

__all__ = ["Mode", "TrainingHistory", "look_up"]

Mode = Literal["min", "max"]
"""Whether a smaller or a larger value is better."""


@final
class TrainingHistory:
    """One row of numbers per epoch, in order.

    A row holds `epoch` (from 1), the training averages `loss`, `regularization_loss` and `total_loss`, the training
    metrics of the tasks, and the same with the prefix `val_` if that epoch was validated.

    Args:
        rows: the rows so far.
        seconds: how long each epoch took; a measurement, so it is no part of equality.

    Example:
        >>> import retrank as rr
        >>> history = rr.training.TrainingHistory([{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.7}])
        >>> history["loss"], history.best("loss")["epoch"], len(history)
        ([0.9, 0.7], 2, 2)
    """

    def __init__(self, rows: list[dict[str, float]] | None = None, seconds: list[float] | None = None) -> None:
        self.rows = rows if rows is not None else []
        self.seconds = seconds if seconds is not None else []

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

    def best(self, monitor: str, mode: Mode = "min") -> dict[str, float]:
        """Return the row of the best epoch.

        Args:
            monitor: the column to judge by.
            mode: whether a smaller or a larger value is better.

        Returns:
            The first row with the best value.

        Raises:
            ConfigError: no epoch has this column.
        """
        rows = [row for row in self.rows if monitor in row]
        if not rows:
            look_up(self.rows[-1] if self.rows else {}, monitor, "TrainingHistory.best")
        return (min if mode == "min" else max)(rows, key=lambda row: row[monitor])

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
