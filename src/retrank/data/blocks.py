"""Converting a long column in blocks whose intermediate arrays stay in the cache."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["in_blocks"]

_ROWS: Final = 2**17

Convert = Callable[[pl.Series, int], npt.NDArray[Any]]
"""From a block and the number of its first row to as many results."""


def in_blocks(values: pl.Series, dtype: npt.DTypeLike, convert: Convert) -> npt.NDArray[Any]:
    """Convert a column block by block.

    Args:
        values: `(rows,)` the column.
        dtype: of the results.
        convert: called for each block, and once for a column without rows, so that its checks run.

    Returns:
        `(rows,)` the results.

    Example:
        >>> import numpy as np, polars as pl
        >>> from retrank.data.blocks import in_blocks
        >>> in_blocks(pl.Series([1, 2]), np.float32, lambda block, first_row: block.to_numpy() * 0.5)
        array([0.5, 1. ], dtype=float32)
    """
    made = np.empty(len(values), dtype=dtype)
    for first in range(0, max(len(values), 1), _ROWS):
        made[first : first + _ROWS] = convert(values[first : first + _ROWS], first)
    return made
