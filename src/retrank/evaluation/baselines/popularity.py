"""Popularity: the same list for everyone."""

from typing import final

from retrank.core.jagged import Jagged
from retrank.core.working import Working
from retrank.evaluation.baselines.baseline import Baseline
from retrank.evaluation.interactions import InteractionMatrix

__all__ = ["Popularity"]


@final
class Popularity(Baseline):
    """Score a candidate by the number of distinct queries that interacted with it.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": ["a", "b", "b", "c"], "song": ["x", "x", "y", "z"]})
        >>> rr.baselines.Popularity().fit(plays).recommend_many(pl.DataFrame({"user": ["c"]}), k=2)["song"].to_list()
        ['x', 'y']
    """

    def _learn(self, matrix: InteractionMatrix, work: Working) -> None:
        work.advance(len(matrix.candidates))

    def _score(self, _: Jagged) -> None:
        return None
