"""List columns as flat values and row lengths."""

from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.data.keys import KeyType, Nulls, as_keys, holds_nothing

__all__ = ["Lists", "flatten"]

_LENGTHS: Final = pl.first().list.len().fill_null(0).cast(pl.Int64)  # one expression: one dispatch for a request


@final
class Lists(NamedTuple):
    """A list column taken apart.

    Args:
        values: `(total,)` the values of all rows, one row after another.
        lengths: `(rows,)` int64; 0 for an empty and for a null list.
    """

    values: pl.Series
    lengths: npt.NDArray[np.int64]

    def row_of(self, place: int) -> int:
        """Return the row of the value at a place."""
        return int(np.searchsorted(np.cumsum(self.lengths), place, side="right"))

    def keys(self, expected: KeyType | None) -> pl.Series:
        """Return the values as `as_keys` does, nulls in place; its errors name the row of the list."""
        values = self.values
        if expected is not None and not len(values):  # lists that are all empty have no type to check
            values = pl.Series(values.name, [], dtype=pl.Null)
        try:
            return as_keys(values, expected, "unknown")
        except DataError as error:
            if error.row is None:
                raise
            raise error.in_table(self.row_of(error.row) - error.row) from None

    def jagged(self, ids: Tensor) -> Jagged:
        """Put the rows together again.

        Args:
            ids: `(total,)` one value for each of `values`.

        Returns:
            A `Jagged` with a row for each list.
        """
        return Jagged.from_lengths(ids, torch.from_numpy(self.lengths))


def flatten(values: pl.Series, nulls: Nulls) -> Lists:
    """Take a list column apart.

    Args:
        values: `(rows,)` lists or fixed-size arrays of scalars, or nothing but nulls of any type.
        nulls: "error" refuses null lists and nulls in lists; "unknown" empties a null list and keeps nulls in lists.

    Returns:
        The flat values and the lengths.

    Raises:
        DataError: not a column of flat lists, or a null that is not allowed.
    """
    where = f"column '{values.name}'"
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    if holds_nothing(lists) and not isinstance(lists.dtype, pl.List):
        lists = pl.Series(lists.name, [None] * len(lists), dtype=pl.List(pl.Null))
    if not isinstance(lists.dtype, pl.List) or isinstance(lists.dtype.inner, pl.List | pl.Array | pl.Struct):
        raise DataError("lists of keys", str(values.dtype), where, "split or flatten the column into lists of scalars")
    if nulls == "error" and lists.null_count():
        row = int(lists.is_null().arg_max() or 0)
        raise DataError("no nulls", "null", where, "fill it with [], or use nulls='unknown'", row=row)
    lengths = lists.to_frame().select(_LENGTHS).to_series().to_numpy(writable=True)
    flat = lists.filter(pl.Series(lengths > 0)).explode()
    if nulls == "error" and flat.null_count():
        place = int(flat.is_null().arg_max() or 0)
        row = Lists(flat, lengths).row_of(place)
        raise DataError("no null in a list", "null", where, "drop it, or use nulls='unknown'", row=row)
    return Lists(flat, lengths)
