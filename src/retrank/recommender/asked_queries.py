"""`AskedQueries`: queries that ask, looked up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import polars as pl
from torch import Tensor

from retrank.recommender.brought_histories import BroughtHistories

__all__ = ["AskedQueries"]


@final
@dataclass(frozen=True)
class AskedQueries:
    """Queries that ask, looked up.

    Args:
        keys: `(n,)` their keys; null for a query that has none.
        places: `(n,)` int64 places among the known queries, -1 for the unknown.
        events: `(n,)` int64 places among the queries of the event log, -1 for those without events.
        brought: feature columns that they bring, `(n,)` each, null where a query brings nothing.
        rows: `(n,)` what each is called in messages: its row in the caller's table; None for a single query.
        histories: what they have done, as some say themselves; None if none does, or it was not looked up yet.
        said: of a single query that brings a history, its keys, which are yet to be looked up.
    """

    keys: pl.Series
    places: Tensor
    events: Tensor
    brought: Mapping[str, pl.Series]
    rows: Sequence[int] | None
    histories: BroughtHistories | None = None
    said: Sequence[str | int | bool] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def take(self, index: Tensor) -> "AskedQueries":
        """Return some of the queries, in an order."""
        chosen = index.numpy()
        return AskedQueries(
            self.keys.gather(chosen),
            self.places[index],
            self.events[index],
            {name: column.gather(chosen) for name, column in self.brought.items()},
            None if self.rows is None else [self.rows[row] for row in index.tolist()],
            None if self.histories is None else self.histories.take(index),
        )
