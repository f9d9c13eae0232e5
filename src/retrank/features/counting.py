"""Counting equal keys and equal numbers: by an array of counts where they lie close together, else by hash or sort."""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.data.key_tables import is_dense

__all__ = ["count_cells", "count_keys"]

Counts = npt.NDArray[np.int64]

_SPARSE: Final = 2
_SMALL: Final = 2**10


def count_keys(keys: pl.Series, counts: pl.Series | None = None) -> pl.DataFrame:
    """Count keys.

    Args:
        keys: `(n,)` keys without nulls.
        counts: `(n,)` how often each is there; once by default.

    Returns:
        The columns `key` (distinct, in any order) and `count` (int64).
    """
    if is_dense(keys, max(_SPARSE * len(keys), _SMALL)):
        array = keys.to_numpy()
        least = array.min()
        totals = count_cells(array - least, None if counts is None else counts.to_numpy())
        found = np.flatnonzero(totals)
        return pl.DataFrame({"key": found + least, "count": totals[found]})
    one = pl.len().cast(pl.Int64) if counts is None else pl.col("count").sum()
    columns = {"key": keys} if counts is None else {"key": keys, "count": counts}
    return pl.DataFrame(columns).group_by("key").agg(one.alias("count"))


def count_cells(cells: npt.NDArray[np.int64], counts: Counts | None) -> Counts:
    """Count small integers.

    Args:
        cells: `(n,)` integers from 0.
        counts: `(n,)` how often each is there; once by default.

    Returns:
        `(greatest cell + 1,)` how often each integer is there.
    """
    if counts is None:
        return np.bincount(cells)
    return np.bincount(cells, counts).astype(np.int64)  # float64 sums, exact below 2**53
