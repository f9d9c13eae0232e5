"""Reading columns of numbers: what is missing is refused or filled, and what float32 cannot hold is refused."""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError
from retrank.data.keys import holds_nothing

__all__ = ["FLOAT32_MAX", "Floats", "Floats32", "known_numbers", "read_numbers", "to_float32"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
"""The greatest float32, about 3.4e38."""


def read_numbers(values: pl.Series, fill: float | None, *, width: int = 1, limit: float = np.inf) -> Floats:
    """Read a column of numbers.

    Args:
        values: `(rows * width,)` integers, floats, decimals or booleans (0 and 1), or nothing but nulls of any type.
            Integers beyond 2**53 are rounded.
        fill: what stands for null, NaN and infinity; None refuses them.
        width: values in a row, for messages.
        limit: the greatest absolute value that is accepted.

    Returns:
        `(rows * width,)` finite float64.

    Raises:
        DataError: another type, a value that is not finite without `fill`, or one beyond the limit.
    """
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        if not holds_nothing(values):
            raise DataError("numbers", str(values.dtype), f"column '{values.name}'", _remedy(values.dtype))
        values = pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    numbers = values.cast(pl.Float64).to_numpy()
    missing = ~np.isfinite(numbers)
    if missing.any():
        if fill is None:
            place = int(missing.argmax())
            got = "null" if values[place] is None else str(values[place])
            fix = "drop the row, or give the feature fill= (a label that may be missing: Passthrough(nulls='unknown'))"
            raise DataError("a finite number", got, f"column '{values.name}'", fix, row=place // width)
        numbers = np.where(missing, fill, numbers)
    if limit < np.inf and (beyond := np.abs(numbers) > limit).any():  # NaN, as a fill, is not beyond
        place = int(beyond.argmax())
        expected = f"a number from {-limit:.2g} to {limit:.2g}, which float32 can hold"
        raise DataError(expected, f"{numbers[place]:g}", f"column '{values.name}'", row=place // width)
    return numbers


def known_numbers(values: pl.Series, fill: float | None, *, limit: float = np.inf) -> Floats:
    """Read the numbers that a statistic counts.

    Args:
        values: `(rows,)` numbers.
        fill: None refuses what is missing; otherwise it is left out.
        limit: the greatest absolute value that is accepted.

    Returns:
        `(at most rows,)` finite float64.

    Raises:
        DataError: as `read_numbers`.
    """
    numbers = read_numbers(values, None if fill is None else np.nan, limit=limit)
    return numbers if fill is None else numbers[~np.isnan(numbers)]


def to_float32(made: Floats, numbers: Floats, name: str, *, width: int = 1) -> Floats32:
    """Round what a kind made of its numbers to float32; numbers too small for it become 0.

    Args:
        made: `(rows * width,)` float64.
        numbers: `(rows * width,)` the numbers it was made of, for messages.
        name: of the column, for messages.
        width: values in a row, for messages.

    Returns:
        `(rows * width,)` finite float32.

    Raises:
        DataError: a number that float32 cannot hold.
    """
    with np.errstate(over="ignore"):
        rounded = made.astype(np.float32)
    beyond = ~np.isfinite(rounded)
    if beyond.any():
        place = int(beyond.argmax())
        got, result = f"{numbers[place]:g}", f"{made[place]:g}"
        got = got if got == result else f"{got}, which becomes {result}"
        expected = f"a number that float32 can hold, up to {FLOAT32_MAX:.2g}"
        raise DataError(expected, got, f"column '{name}'", row=place // width)
    return rounded


def _remedy(dtype: pl.DataType) -> str:
    if dtype == pl.Duration:
        return "convert it first, e.g. with dt.total_seconds()"
    if dtype.is_temporal():
        return "use TimestampPart, or convert it first, e.g. with dt.epoch('s')"
    if isinstance(dtype, pl.List | pl.Array):
        return "use Passthrough for vectors, or CategoricalList for lists of keys"
    return "cast the column"
