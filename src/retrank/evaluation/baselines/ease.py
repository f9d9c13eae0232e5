"""EASE: linear autoencoder in closed form, the baseline that deep models must beat."""

from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.evaluation.baselines.baseline import Baseline
from retrank.evaluation.interactions import InteractionMatrix

__all__ = ["EASE"]


@final
class EASE(Baseline):
    """Score by the item-item weights B that minimise `|X - XB|² + l2 |B|²` with a zero diagonal.

    With P the inverse of `XᵀX + l2 I`, `B[i, j] = -P[i, j] / P[j, j]`. Memory: two float64 matrices of
    candidates x candidates (20,000 candidates: 6.4 GB).

    Args:
        l2: strength of the penalty; tune it on a validation part, about 100 to 1000.
        decay: in scoring, the weight of a history's candidate with m later ones is `exp(-decay * m)`.

    Raises:
        ConfigError: `l2` is not positive, or a negative decay.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbc"), "song": list("xyxyx")})
        >>> rr.baselines.EASE(l2=1.0).fit(plays).recommend_many(pl.DataFrame({"user": ["c"]}), k=1)["song"].to_list()
        ['y']

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019; the decay is ours.
    """

    def __init__(self, l2: float = 500.0, decay: float = 0.0) -> None:
        if not (l2 > 0 and decay >= 0):
            raise ConfigError("l2 > 0 and decay >= 0", f"l2={l2}, decay={decay}", "EASE")
        self.l2, self.decay = l2, decay

    def _learn(self, matrix: InteractionMatrix) -> None:
        gram = matrix.co_occurrences()
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0.0)
        self._weights = weights.float()

    def _score(self, history: Tensor) -> Tensor:
        return history @ self._weights
