"""What else a query has: the other candidates of each interaction's query, in no order."""

from typing import Final

import numpy as np
import polars as pl

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError
from retrank.data.checks import require_keys
from retrank.data.sources import TableLike, frame, like

__all__ = ["with_seen_candidates"]

_CELLS: Final = 2**20  # of the rectangle that is looked at at once


def with_seen_candidates(
    table: TableLike, *, query: str, candidate: str, length: int, seed: int = 0, name: str = "seen"
) -> pl.DataFrame:
    """Give every interaction what else its query has: other candidates, at random where there are many.

    For tables without times. Where there are times, `with_recent_candidates` tells a model nothing of the future.

    Args:
        table: one row an interaction.
        query: the column of query keys.
        candidate: the column of candidate keys.
        length: at most this many.
        seed: of the choice.
        name: of the new column.

    Returns:
        The table with a list column of distinct keys, never that of the row itself; the only candidate of a query has
        an empty list. Of pandas if `table` is.

    Raises:
        ConfigError: the length is below 1, or the new column exists already.
        DataError: a column is missing or holds nulls.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabba"), "song": list("xyxxy")})
        >>> rr.data.with_seen_candidates(plays, query="user", candidate="song", length=9)["seen"].to_list()
        [['y'], ['x'], [], [], ['x']]
    """
    check_count(length, "length", "with_seen_candidates")
    rows = frame(table)
    require_keys(rows, query)
    require_keys(rows, candidate)
    if name in rows.columns:
        raise ConfigError("a new column name", f"'{name}' exists", "with_seen_candidates")
    keys = rows.select(query=query, candidate=candidate)
    pairs = keys.unique(maintain_order=True)
    pairs = pairs[np.random.default_rng(seed).permutation(len(pairs))].sort("query", maintain_order=True)
    pairs = pairs.with_row_index("place").with_columns(
        first=pl.col("place").min().over("query"), count=pl.len().over("query")
    )
    own = keys.join(pairs, on=["query", "candidate"], how="left", maintain_order="left")
    most = int(own["count"].to_numpy().max(initial=1))
    length = min(length, max(most - 1, 1))
    parts = [_lists(part, pairs["candidate"], length) for part in own.iter_slices(max(_CELLS // length, 1))]
    lists = pl.concat(parts) if parts else pl.Series([], dtype=pl.List(pairs.schema["candidate"]))
    return like(table, rows.with_columns(lists.alias(name)))


def _lists(own: pl.DataFrame, candidates: pl.Series, length: int) -> pl.Series:
    """A query's candidates lie in a circle, in random order; a row takes the ones that follow its own."""
    place, first, count = (own[column].cast(pl.Int64).to_numpy()[:, None] for column in ("place", "first", "count"))
    steps = np.arange(1, 1 + length)
    places = first + (place - first + steps) % count
    chosen = pl.Series(places.reshape(-1)).set(pl.Series((steps >= count).reshape(-1)), None)
    return candidates.gather(chosen).reshape((len(own), length)).arr.to_list().list.drop_nulls()
