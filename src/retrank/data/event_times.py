"""Times of events: numbers, dates or datetimes, as numbers that order alike."""

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.data.checks import require_time

__all__ = ["as_numbers", "as_times", "require_times", "time_column", "times_like"]


def time_column(schema: pl.Schema, others: tuple[str, ...]) -> str | None:
    """Choose the column that says when an event was, for a table whose owner did not say.

    Args:
        schema: of the table.
        others: columns that are something else, such as keys.

    Returns:
        The only date or datetime column; else `time` or `timestamp` if it is the only number column of these names;
        None otherwise.
    """
    free = {name: dtype for name, dtype in schema.items() if name not in others}
    temporal = [name for name, dtype in free.items() if isinstance(dtype, pl.Date | pl.Datetime)]
    named = [name for name in ("time", "timestamp") if name in free and free[name].is_numeric()]
    found = temporal or named
    return found[0] if len(found) == 1 else None


def require_times(times: pl.Series) -> pl.Series:
    """Return times that are all there and finite.

    Args:
        times: any column.

    Raises:
        DataError: another type, a null, NaN or infinity.
    """
    require_time(times.to_frame(), times.name, "history")
    return times


def as_numbers(times: pl.Series) -> Tensor:
    """Return times as numbers that order alike.

    Args:
        times: `(n,)` numbers, dates or datetimes without nulls.

    Returns:
        `(n,)` int64, or float64 for floats.

    Raises:
        DataError: an integer beyond 64 bits.
    """
    if times.dtype.is_float() or times.dtype.is_decimal():
        return torch.from_numpy(times.cast(pl.Float64).to_numpy(writable=True))
    try:
        return torch.from_numpy(times.to_physical().cast(pl.Int64).to_numpy(writable=True))
    except pl.exceptions.PolarsError as error:
        raise DataError("integers below 2**63", str(times.max()), f"column '{times.name}'") from error


def as_times(numbers: Tensor, name: str, dtype: pl.DataType) -> pl.Series:
    """Return what `as_numbers` was given.

    Args:
        numbers: `(n,)`.
        name: of the column.
        dtype: of the column.
    """
    return pl.Series(name, numbers.numpy()).cast(dtype)


def times_like(times: pl.Series, dtype: pl.DataType, count: int) -> Tensor:
    """Return times as the numbers that times of another column are, so that the two can be compared.

    Args:
        times: `(count,)` of the kind of the other column: numbers, dates, or datetimes with or without a zone.
        dtype: of the other column.
        count: how many there must be.

    Raises:
        DataError: times of another kind, not as many, or one that the other type cannot hold.
    """
    if len(times) != count or _kind(times.dtype) != _kind(dtype):
        raise DataError(f"{count} times of type {dtype}", f"{len(times)} of {times.dtype}", "times")
    try:
        cast = require_times(times).cast(dtype)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"times of type {dtype}", str(error), f"column '{times.name}'") from error
    if times.dtype.is_float() and not bool((cast.cast(pl.Float64) == times).all()):
        row = int((cast.cast(pl.Float64) != times).arg_max() or 0)
        raise DataError(f"times of type {dtype}", str(times[row]), f"column '{times.name}', row {row}")
    return as_numbers(cast)


def _kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else "datetime with time zone"
    return "number" if dtype.is_numeric() else str(dtype)
