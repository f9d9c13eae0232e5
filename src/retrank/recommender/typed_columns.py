"""Columns that are asked with, held to the type of the columns that the models were trained on.

A value means here what it means in `FeatureSpace.transform`, or it is refused: never cast into something else.
"""

import math
from typing import Any

import numpy as np
import polars as pl

from retrank.core.errors import DataError
from retrank.data.keys import holds_nothing

__all__ = ["as_trained", "column_of", "kind_of_values"]


def kind_of_values(dtype: pl.DataType) -> str:
    """Name what kind of values a column holds; columns of one kind can stand for each other.

    Args:
        dtype: of the column.

    Returns:
        E.g. "text", "number", "flag", "date", "datetime", "datetime with time zone" or "list of text"; "nothing" for a
        column of nulls.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.typed_columns import kind_of_values
        >>> kind_of_values(pl.Int8()) == kind_of_values(pl.Float64()), kind_of_values(pl.List(pl.String()))
        (True, 'list of text')
    """
    if isinstance(dtype, pl.List | pl.Array):
        return f"list of {kind_of_values(dtype.inner)}"  # type: ignore[arg-type]  # polars allows the class too
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else "datetime with time zone"
    if dtype.is_numeric():
        return "number"
    return {pl.Null(): "nothing", pl.Boolean(): "flag", pl.Date(): "date"}.get(dtype, str(dtype).lower())


def as_trained(column: pl.Series, dtype: pl.DataType, of: str = "queries") -> pl.Series:
    """Check a column against the one that was trained on; NaN counts as missing.

    Args:
        column: what is asked with; nothing but nulls may have any type.
        dtype: of the column that was trained on.
        of: what is asked with it, for messages.

    Returns:
        The column with nulls for NaN, and in the time zone of the trained one; nulls of the trained type for nothing.

    Raises:
        DataError: values of another kind.
    """
    if holds_nothing(column):
        return pl.Series(column.name, [None] * len(column), dtype=dtype)
    asked, trained = kind_of_values(column.dtype), kind_of_values(dtype)
    if not _can_stand_for(asked, trained):
        raise DataError(
            f"{trained} values, as in training", f"{asked} values ({column.dtype})", f"column '{column.name}' of {of}"
        )
    if column.dtype.is_float():
        return column.fill_nan(None)
    if isinstance(dtype, pl.Datetime) and isinstance(column.dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.dt.convert_time_zone(dtype.time_zone)
    return column


def _can_stand_for(asked: str, trained: str) -> bool:
    if asked == trained or "nothing" in (asked, trained):
        return True
    both_lists = asked.startswith("list of ") and trained.startswith("list of ")
    return both_lists and _can_stand_for(asked.removeprefix("list of "), trained.removeprefix("list of "))


def column_of(name: str, value: Any) -> pl.Series:
    """Make a column of one value, in the type that the value has.

    Args:
        name: of the column.
        value: a Python or NumPy scalar, a list of them, a polars Series as a list, or None.

    Returns:
        The column, one row.

    Raises:
        DataError: a value of no type that a table can hold, or a list of several types.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return pl.Series(name, [None], dtype=pl.Float64)
    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    try:
        column = pl.Series(name, [value])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(
            "a value that a table can hold", f"{value!r} ({error})", f"column '{name}' of the query"
        ) from error
    if isinstance(column.dtype, pl.Object | pl.Struct | pl.Binary):
        raise DataError("a value that a table can hold", repr(value), f"column '{name}' of the query")
    return column
