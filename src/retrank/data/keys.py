"""What counts as a key: integers, strings and booleans, with nulls handled as the feature says."""

from typing import Final, Literal

import polars as pl

from retrank.core.errors import DataError

__all__ = ["KeyType", "Nulls", "as_keys", "key_type"]

KeyType = Literal["string", "integer", "boolean"]
"""The three types that a key may have; every integer width is one type, and so are all kinds of text."""
Nulls = Literal["error", "unknown"]
"""What to do with a null: raise `DataError`, or give it the unknown id."""

_DTYPES: Final[dict[KeyType, type[pl.DataType]]] = {"string": pl.String, "integer": pl.Int64, "boolean": pl.Boolean}


def key_type(values: pl.Series) -> KeyType:
    """Tell the key type of a column.

    Args:
        values: the column.

    Returns:
        "string" (also for `pl.Categorical` and `pl.Enum`), "integer" or "boolean".

    Raises:
        DataError: the column holds something else, e.g. floats or dates.
    """
    if values.dtype == pl.Boolean:
        return "boolean"
    if values.dtype.is_integer():
        return "integer"
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    raise DataError(
        "keys that are strings, integers or booleans",
        str(values.dtype),
        f"column '{values.name}'",
        "cast the column, or use a kind for numbers, lists or timestamps",
    )


def as_keys(values: pl.Series, expected: KeyType | None, nulls: Nulls, *, first_row: int = 0) -> pl.Series:
    """Bring a column of keys to one dtype a key type.

    Args:
        values: the column.
        expected: the key type that was learned, or None to accept any.
        nulls: "error" refuses nulls, "unknown" leaves them in place.
        first_row: the number of the first row in the whole table, for messages.

    Returns:
        `pl.String`, `pl.Int64` or `pl.Boolean`, as many rows.

    Raises:
        DataError: another type, an integer beyond 64 bits, or a null that is not allowed.
    """
    if nulls == "error" and values.null_count():
        raise DataError(
            "no nulls",
            "null",
            f"column '{values.name}', row {first_row + int(values.is_null().arg_max() or 0)}",
            "fill or drop it, or use nulls='unknown'",
        )
    if values.dtype == pl.Null and expected is not None:
        return values.cast(_DTYPES[expected])
    found = key_type(values)
    if expected is not None and found != expected:
        raise DataError(
            f"{expected} keys, as it was fitted on", f"{found} keys ({values.dtype})", f"column '{values.name}'",
            f"cast the column to {_DTYPES[expected].__name__}, or fit on a table of this type",
        )  # fmt: skip
    try:
        return values.cast(_DTYPES[found])
    except pl.exceptions.InvalidOperationError as error:
        raise DataError(
            "integers below 2**63", str(values.max()), f"column '{values.name}'", "cast the column to strings"
        ) from error
