"""What a system must offer to be evaluated."""

from typing import Protocol, runtime_checkable

import polars as pl

__all__ = ["Recommends"]


@runtime_checkable
class Recommends(Protocol):
    """Anything that makes top-k lists: a baseline, a `Recommender`, or a system of yours.

    Example:
        >>> import polars as pl, retrank as rr
        >>> class Always:
        ...     def recommend_many(self, queries, k=10, *, exclude_seen=True):
        ...         return queries.with_columns(movie_id=pl.lit("50"), rank=1, score=1.0)
        >>> isinstance(Always(), rr.evaluation.Recommends)
        True
    """

    def recommend_many(self, queries: pl.DataFrame, k: int = 10, *, exclude_seen: bool = True) -> pl.DataFrame:
        """Recommend to many queries.

        Args:
            queries: one row per query, with the query key column.
            k: the length of a list.
            exclude_seen: leave out what the query interacted with in training.

        Returns:
            At most k rows a query: the query key, the candidate key, `rank` (from 1) and `score`.
        """
