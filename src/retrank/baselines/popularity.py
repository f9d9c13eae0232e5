"""Popularity: the same list for everyone."""

from collections.abc import Mapping
from typing import final

from torch import Tensor

from retrank.baselines.baseline import Baseline
from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.learned import require_tensors
from retrank.core.jagged import Jagged
from retrank.core.working import Working

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

    def score(self, histories: Jagged) -> None:
        """Return None: everyone gets the popular list."""

    def learned(self) -> dict[str, Tensor]:
        """Return nothing: what is popular is counted."""
        return {}

    def _restore(self, learned: Mapping[str, Tensor]) -> None:
        require_tensors(learned, {}, "Popularity")
