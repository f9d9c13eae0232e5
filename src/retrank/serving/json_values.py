"""Values of tables in JSON, which has no dates."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import polars as pl

from retrank.core.errors import DataError

__all__ = ["from_json", "row_from_json"]


def from_json(value: Any, dtype: pl.DataType, where: str) -> Any:
    """Read a value of a column; text is read as a date or time where the column holds these.

    Args:
        value: as JSON has it.
        dtype: of the column.
        where: what the value is, for the message.

    Returns:
        The value; of another kind than the column's if it was sent so, which whoever takes it refuses.

    Raises:
        DataError: text that is no date or time.

    Example:
        >>> import polars as pl
        >>> from retrank.serving.json_values import from_json
        >>> from_json("2020-01-31", pl.Date(), "column 'day'")
        datetime.date(2020, 1, 31)
    """
    if isinstance(dtype, pl.List) and isinstance(value, list):
        inner = dtype.inner() if isinstance(dtype.inner, type) else dtype.inner
        return [from_json(one, inner, where) for one in value]
    if not isinstance(value, str) or not isinstance(dtype, pl.Date | pl.Datetime):
        return value
    try:
        if isinstance(dtype, pl.Date):
            return dt.date.fromisoformat(value)
        read = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise DataError("text in ISO 8601, such as 2026-01-31", repr(value[:64]), where) from error
    if dtype.time_zone is None:
        return read if read.tzinfo is None else read.astimezone(dt.UTC).replace(tzinfo=None)
    return read if read.tzinfo is not None else read.replace(tzinfo=dt.UTC)


def row_from_json(values: Mapping[str, Any], schema: Mapping[str, pl.DataType], where: str) -> pl.DataFrame:
    """Read one row of a table.

    Args:
        values: by column name; a missing one is null.
        schema: of the table.
        where: what the row is of, for messages.

    Returns:
        One row with the columns of the table.

    Raises:
        DataError: an unknown column, or a value that the column cannot hold exactly.
    """
    if unknown := [name for name in values if name not in schema]:
        raise DataError(f"columns of {list(schema)}", str(unknown), where, "fix the name or leave it out")
    columns = []
    for name, dtype in schema.items():
        value = from_json(values.get(name), dtype, f"column '{name}' of {where}")
        try:
            if isinstance(value, bool) != (dtype == pl.Boolean) and value is not None:
                raise TypeError("true and false are no numbers")
            if isinstance(value, list) != isinstance(dtype, pl.List | pl.Array) and value is not None:
                raise TypeError("a list is no scalar")
            if dtype.is_temporal() and isinstance(value, int | float):
                raise TypeError("numbers are no dates")
            whole = float(value) if dtype.is_float() and type(value) is int else value
            columns.append(pl.Series(name, [whole], dtype=dtype))
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            got = f"{str(value)[:64]!r}, of type {type(value).__name__}"
            raise DataError(f"a value of type {dtype}", got, f"column '{name}' of {where}") from error
    return pl.DataFrame(columns)
