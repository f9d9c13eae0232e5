"""What counts as a key: integers, strings and booleans, with nulls handled as the feature says."""

from typing import Final, Literal

import numpy as np
import polars as pl

from retrank.core.errors import ConfigError, DataError

__all__ = ["KeyType", "Nulls", "as_key", "as_keys", "check_nulls", "holds_nothing", "key_type"]

KeyType = Literal["string", "integer", "boolean"]
"""The three types that a key may have; every integer width is one type, and so are all kinds of text."""
Nulls = Literal["error", "unknown"]
"""What to do with a null: raise `DataError`, or give it the unknown id (a label: NaN)."""

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
    fix = "cast the column, or use a kind for numbers, lists or timestamps"
    if values.dtype.is_float():
        fix = "cast the column to integers (pandas makes floats of integers with missing values), or use a number kind"
    raise DataError("keys that are strings, integers or booleans", str(values.dtype), f"column '{values.name}'", fix)


def holds_nothing(values: pl.Series) -> bool:
    """Tell whether a column is nothing but nulls. Then its type says nothing: pandas has none for such a column.

    Args:
        values: `(rows,)` the column.

    Returns:
        Whether there are rows, and every one is null.
    """
    return len(values) > 0 and values.null_count() == len(values)


def as_keys(values: pl.Series, expected: KeyType | None, nulls: Nulls) -> pl.Series:
    """Bring a column of keys to one dtype a key type.

    Args:
        values: the column; one of nothing but nulls may have any type.
        expected: the key type that was learned, or None to accept any.
        nulls: "error" refuses nulls, "unknown" leaves them in place.

    Returns:
        `pl.String`, `pl.Int64` or `pl.Boolean`, as many rows.

    Raises:
        DataError: another type, an integer beyond 64 bits, or a null that is not allowed.
    """
    if expected is not None and (values.dtype == pl.Null or holds_nothing(values)):
        values = pl.Series(values.name, [None] * len(values), dtype=_DTYPES[expected])
    found = key_type(values)
    if expected is not None and found != expected:
        raise DataError(
            f"{expected} keys, as it was fitted on", f"{found} keys ({values.dtype})", f"column '{values.name}'",
            f"cast the column to {_DTYPES[expected].__name__}, or fit on a table of this type",
        )  # fmt: skip
    if nulls == "error" and values.null_count():
        row = int(values.is_null().arg_max() or 0)
        raise DataError("no nulls", "null", f"column '{values.name}'", "fill it, or use nulls='unknown'", row=row)
    keys = values.cast(_DTYPES[found], strict=False)
    if keys.null_count() > values.null_count():
        row = int((keys.is_null() & values.is_not_null()).arg_max() or 0)
        where, fix = f"column '{values.name}'", "cast the column to strings"
        raise DataError("integers from -2**63 to 2**63 - 1", str(values[row]), where, fix, row=row)
    return keys


def as_key(value: object, expected: KeyType, where: str) -> str | int | bool:
    """Take one key.

    Args:
        value: a Python or NumPy string, integer or boolean.
        expected: the key type that was learned.
        where: what the key is of, for messages.

    Returns:
        The key as Python's own type.

    Raises:
        DataError: a value of another type, or an integer beyond 64 bits.

    Example:
        >>> import numpy as np
        >>> from retrank.data.keys import as_key
        >>> as_key(np.int32(7), "integer", "query")
        7
    """
    if isinstance(value, np.generic):
        value = value.item()
    is_right = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
    }[expected]
    if not is_right or not isinstance(value, str | int):
        got = "null" if value is None else f"{value!r}, of type {type(value).__name__}"
        raise DataError(f"{'an' if expected == 'integer' else 'a'} {expected} key", got, where)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise DataError("an integer key of 64 bits", str(value), where)
    return value


def check_nulls(nulls: str, where: str) -> None:
    """Refuse a `nulls` argument that is neither of the two words.

    Args:
        nulls: the argument.
        where: what it was given to.

    Raises:
        ConfigError: another word.
    """
    if nulls not in ("error", "unknown"):
        raise ConfigError("nulls='error' or nulls='unknown'", repr(nulls), where)
