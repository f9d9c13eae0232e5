"""Item-kNN: candidates similar to what the query already has."""

from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.evaluation.baselines.baseline import Baseline
from retrank.evaluation.interactions import InteractionMatrix

__all__ = ["ItemKNN"]


@final
class ItemKNN(Baseline):
    """Score a candidate by the sum of its similarities to the query's history, over its nearest neighbours.

    The similarity of two candidates is `n_ij / (sqrt(n_i n_j) + shrink)`, n counting queries.

    Args:
        num_neighbors: neighbours kept for each candidate.
        shrink: makes similarities of rare pairs smaller.

    Raises:
        ConfigError: fewer than one neighbour, or a negative shrink.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbc"), "song": list("xyxyx")})
        >>> knn = rr.baselines.ItemKNN(num_neighbors=1).fit(plays)
        >>> knn.recommend_many(pl.DataFrame({"user": ["c"]}), k=1)["song"].to_list()
        ['y']

    Source: Sarwar et al., "Item-based collaborative filtering", WWW 2001, on binary data with the shrunk cosine of
    Deshpande and Karypis, TOIS 2004.
    """

    def __init__(self, num_neighbors: int = 100, shrink: float = 0.0) -> None:
        if num_neighbors < 1 or shrink < 0:
            raise ConfigError(
                "num_neighbors >= 1 and shrink >= 0", f"num_neighbors={num_neighbors}, shrink={shrink}", "ItemKNN"
            )
        self.num_neighbors, self.shrink = num_neighbors, shrink

    def _learn(self, matrix: InteractionMatrix) -> None:
        together = matrix.co_occurrences().float()
        norms = together.diagonal().sqrt()
        similarity = together / (torch.outer(norms, norms) + self.shrink)
        similarity.fill_diagonal_(0.0)
        best, places = torch.sort(similarity, dim=1, descending=True, stable=True)
        kept = slice(0, min(self.num_neighbors, len(similarity)))
        self._weights = torch.zeros_like(similarity).scatter_(1, places[:, kept], best[:, kept]).T.contiguous()

    def _score(self, history: Tensor) -> Tensor:
        return history @ self._weights
