"""Converting a long column in blocks whose intermediate arrays stay in the cache."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError

__all__ = ["in_blocks"]

_ROWS: Final = 2**17

Convert = Callable[[pl.Series], npt.NDArray[Any]]
"""From a block to as many results."""


def in_blocks(values: pl.Series, dtype: npt.DTypeLike, convert: Convert) -> npt.NDArray[Any]:
    """Convert a column block by block.

    Args:
        values: `(rows,)` the column.
        dtype: of the results.
        convert: called for each block, and once for a column without rows, so that its checks run.

    Returns:
        `(rows,)` the results.

    Raises:
        DataError: what `convert` raised, with the row in the whole column.

    Example:
        >>> import numpy as np, polars as pl
        >>> from retrank.data.blocks import in_blocks
        >>> in_blocks(pl.Series([1, 2]), np.float32, lambda block: block.to_numpy() * 0.5)
        array([0.5, 1. ], dtype=float32)
    """
    made = np.empty(len(values), dtype=dtype)
    for first in range(0, max(len(values), 1), _ROWS):
        try:
            made[first : first + _ROWS] = convert(values[first : first + _ROWS])
        except DataError as error:
            raise error.in_table(first).with_traceback(error.__traceback__) from error.__cause__
    return made
