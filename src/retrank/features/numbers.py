"""Reading columns of numbers: what is missing is refused or filled, never passed on."""

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError

__all__ = ["Floats", "known_numbers", "read_numbers"]

Floats = npt.NDArray[np.float64]


def read_numbers(values: pl.Series, fill: float | None, *, first_row: int = 0, width: int = 1) -> Floats:
    """Read a column of numbers.

    Args:
        values: `(rows * width,)` integers, floats, decimals or booleans (0 and 1).
        fill: what stands for null, NaN and infinity; None refuses them.
        first_row: the number of the first row in the whole table, for messages.
        width: values in a row, for messages.

    Returns:
        `(rows * width,)` finite float64.

    Raises:
        DataError: another type, or a value that is not finite without `fill`.
    """
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        fix = "use TimestampPart, or cast the column" if values.dtype.is_temporal() else "cast the column"
        raise DataError("numbers", str(values.dtype), f"column '{values.name}'", fix)
    numbers = values.cast(pl.Float64).to_numpy()
    missing = ~np.isfinite(numbers)
    if not missing.any():
        return numbers
    if fill is None:
        place = int(missing.argmax())
        got = "null" if values[place] is None else str(values[place])
        where = f"column '{values.name}', row {first_row + place // width}"
        raise DataError("a finite number", got, where, "drop the row, or give the feature fill=")
    return np.where(missing, fill, numbers)


def known_numbers(values: pl.Series, fill: float | None, *, first_row: int = 0) -> Floats:
    """Read the numbers that a statistic counts.

    Args:
        values: `(rows,)` numbers.
        fill: None refuses what is missing; otherwise it is left out.
        first_row: the number of the first row in the whole table, for messages.

    Returns:
        `(at most rows,)` finite float64.

    Raises:
        DataError: as `read_numbers`.
    """
    numbers = read_numbers(values, None if fill is None else np.nan, first_row=first_row)
    return numbers if fill is None else numbers[~np.isnan(numbers)]
