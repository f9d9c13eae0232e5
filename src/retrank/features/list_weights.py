"""Weights of the keys in lists, from a column of their own."""

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError
from retrank.data.keys import Nulls, holds_nothing
from retrank.features.list_columns import flatten
from retrank.features.numbers import Floats32, read_numbers, to_float32

__all__ = ["read_weights"]


def read_weights(values: pl.Series, lengths: npt.NDArray[np.int64], keys: str, nulls: Nulls) -> Floats32:
    """Read the weights of the keys in lists.

    Args:
        values: `(rows,)` lists of numbers.
        lengths: `(rows,)` how many keys each row has.
        keys: the column of the keys, for messages.
        nulls: "unknown" takes a null list as an empty one; a null in a list is always refused.

    Returns:
        `(total,)` finite float32 of at least 0, one row after another.

    Raises:
        DataError: no lists of numbers, another number of them than of keys, or a weight that is negative or no number.
    """
    where = f"column '{values.name}', the weights of '{keys}'"
    if not (isinstance(values.dtype, pl.List | pl.Array) or holds_nothing(values)):
        raise DataError("lists of numbers", str(values.dtype), where, "give a weight for each key")
    lists = flatten(values, nulls)
    if (lists.lengths != lengths).any():
        row = int((lists.lengths != lengths).argmax())
        raise DataError(f"{lengths[row]} weights, one a key", str(lists.lengths[row]), where, row=row)
    try:
        numbers = read_numbers(lists.values, None)
        weights = to_float32(numbers, numbers, values.name)
    except DataError as error:
        if error.row is None:
            raise
        raise error.in_table(lists.row_of(error.row) - error.row) from None
    if (numbers < 0).any():
        place = int((numbers < 0).argmax())
        raise DataError("weights of at least 0", f"{numbers[place]:g}", where, row=lists.row_of(place))
    return weights
