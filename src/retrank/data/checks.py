"""Checks of input tables: each names the column and the first bad row, and says what to do."""

import difflib
from collections.abc import Iterable, Mapping

import polars as pl

from retrank.core.errors import DataError

__all__ = [
    "require_columns",
    "require_flat",
    "require_keys",
    "require_no_nulls",
    "require_rows",
    "require_time",
    "require_unique",
]

Columns = pl.DataFrame | Mapping[str, pl.DataType]
"""A table, or only its column names and types."""


def require_columns(columns: Columns, names: Iterable[str], where: str = "table") -> None:
    """Require that a table has these columns.

    Args:
        columns: the table, or a mapping of column name to type.
        names: the columns that must be there.
        where: what the table is, for the message.

    Raises:
        DataError: one is missing; the message suggests the nearest name.

    Example:
        >>> import polars as pl, retrank as rr
        >>> rr.data.require_columns(pl.DataFrame({"age": [30]}), ["ago"], "users")
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: users: expected a column 'ago', got the columns ['age']; did you mean 'age'?
    """
    here = list(_types(columns))
    for name in names:
        if name not in here:
            near = difflib.get_close_matches(str(name), here, n=1)
            fix = f"did you mean '{near[0]}'?" if near else "add the column or fix the name"
            raise DataError(f"a column '{name}'", f"the columns {here}", where, fix)


def require_flat(columns: Columns, names: Iterable[str], where: str = "table") -> None:
    """Require that columns hold scalars or lists of scalars.

    Args:
        columns: the table, or a mapping of column name to type.
        names: the columns to check; all must exist.
        where: what the table is, for the message.

    Raises:
        DataError: a column holds structs, or lists of anything but scalars.
    """
    types = _types(columns)
    for name in names:
        dtype = types[name]
        inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
        if isinstance(inner, pl.List | pl.Array | pl.Struct | pl.Object):
            is_mixed = isinstance(inner, pl.Object)
            fix = "give all its values one type" if is_mixed else "flatten the nesting, or unnest the struct"
            raise DataError("scalars or lists of scalars", str(dtype), f"column '{name}' of {where}", fix)


def require_rows(frame: pl.DataFrame, where: str = "table") -> None:
    """Require at least one row.

    Args:
        frame: the table.
        where: what the table is, for the message.

    Raises:
        DataError: the table is empty.
    """
    if frame.height == 0:
        raise DataError("at least one row", "an empty table", where)


def require_no_nulls(frame: pl.DataFrame, names: Iterable[str], where: str = "table") -> None:
    """Require that no row of these columns is null or NaN.

    Args:
        frame: the table.
        names: the columns to check; a null inside a list is not looked for.
        where: what the table is, for the message.

    Raises:
        DataError: with the first such row (0-based).
    """
    names = list(names)
    require_columns(frame, names, where)
    for name in names:
        column = frame[name]
        missing = column.is_null()
        if column.dtype.is_float():
            missing |= column.is_nan().fill_null(value=True)
        _refuse_first(missing, column, "a value in every row", where, "drop such rows or fill them first")


def require_keys(frame: pl.DataFrame, name: str, where: str = "table") -> None:
    """Require a column that can identify queries or candidates: text or integers, no nulls.

    Args:
        frame: the table.
        name: the column.
        where: what the table is, for the message.

    Raises:
        DataError: missing column, other type, or a null.
    """
    require_columns(frame, [name], where)
    dtype = frame.schema[name]
    if not (dtype.is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)):
        raise DataError("text or integer keys", str(dtype), f"column '{name}' of {where}", "cast the column")
    require_no_nulls(frame, [name], where)


def require_time(frame: pl.DataFrame, name: str, where: str = "table") -> None:
    """Require a column of times: numbers, dates or datetimes, all finite.

    Args:
        frame: the table.
        name: the column.
        where: what the table is, for the message.

    Raises:
        DataError: missing column, other type, no rows to tell a type by, a null, NaN or infinity.
    """
    require_columns(frame, [name], where)
    column = frame[name]
    if not (column.dtype.is_numeric() or column.dtype.is_temporal()):
        require_rows(frame, where)  # a file without rows says nothing of types
        example = "" if column.null_count() == len(column) else f", such as {column.drop_nulls()[0]!r}"
        raise DataError(
            "a number, date or datetime",
            f"{column.dtype}{example}",
            f"column '{name}' of {where}",
            "write times in ISO 8601, or parse them first, e.g. with str.to_datetime()",
        )
    require_no_nulls(frame, [name], where)
    if column.dtype.is_float():
        _refuse_first(column.is_infinite(), column, "a finite time", where, "drop such rows")


def require_unique(frame: pl.DataFrame, name: str, where: str = "table") -> None:
    """Require that no value of a column comes twice.

    Args:
        frame: the table.
        name: the column.
        where: what the table is, for the message.

    Raises:
        DataError: with the first row whose value was seen before.
    """
    require_columns(frame, [name], where)
    column = frame[name]
    _refuse_first(~column.is_first_distinct(), column, "every value once", where, f"use unique(subset='{name}') first")


def _types(columns: Columns) -> Mapping[str, pl.DataType]:
    return columns.schema if isinstance(columns, pl.DataFrame) else columns


def _refuse_first(bad: pl.Series, column: pl.Series, expected: str, where: str, fix: str) -> None:
    row = bad.arg_max() if bad.any() else None
    if row is not None:
        count = bad.sum()
        got = f"{column[row]!r}" + (f" ({count} such rows)" if count > 1 else "")
        raise DataError(expected, got, f"column '{column.name}'", fix, row=row, table=where)
