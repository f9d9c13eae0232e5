"""EASE: linear autoencoder in closed form, the baseline that deep models must beat."""

import math
from collections.abc import Mapping
from typing import Final, final

import torch
from torch import Tensor

from retrank.baselines.baseline import Baseline
from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.learned import require_tensors
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.working import Working
from retrank.ops.symmetric_inverse import invert_strips

__all__ = ["EASE"]

_ROWS: Final = 512  # of a strip
_BYTES_A_PAIR: Final = 6  # half a matrix of float64 becomes a whole one of float32, piece by piece


@final
class EASE(Baseline):
    """Score by the item-item weights B that minimise `|X - XB|² + l2 |B|²` with a zero diagonal.

    With P the inverse of `XᵀX + l2 I`, `B[i, j] = -P[i, j] / P[j, j]`. Memory: 6 bytes for each pair of candidates
    (20,000 candidates: 2.4 GB); time: the third power of their number (12,000: about 40 s of a core).

    Args:
        l2: strength of the penalty; tune it on a validation part, about 100 to 1000.
        decay: in scoring, the weight of a history's candidate with m later ones is `exp(-decay * m)`.
        memory_limit: bytes; `fit` refuses candidates that need more.

    Raises:
        ConfigError: `l2` is not positive, or a negative decay; in `fit`, more candidates than the memory limit allows.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbc"), "song": list("xyxyx")})
        >>> rr.baselines.EASE(l2=1.0).fit(plays).recommend_many(pl.DataFrame({"user": ["c"]}), k=1)["song"].to_list()
        ['y']

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019; the decay is ours.
    """

    def __init__(self, l2: float = 500.0, decay: float = 0.0, memory_limit: float = 8 * 10**9) -> None:
        if not (l2 > 0 and 0 <= decay < math.inf and memory_limit > 0):
            got = f"l2={l2}, decay={decay}, memory_limit={memory_limit}"
            raise ConfigError("l2 > 0, a finite decay >= 0 and memory_limit > 0", got, "EASE")
        self.l2, self.decay, self.memory_limit = l2, decay, memory_limit

    def memory_needed(self, num_candidates: int) -> int:
        """Return the bytes that `fit` needs for so many candidates."""
        return _BYTES_A_PAIR * num_candidates**2

    def _learn(self, matrix: InteractionMatrix, work: Working) -> None:
        num_candidates = len(matrix.candidates)
        needed = self.memory_needed(num_candidates)
        if needed > self.memory_limit:
            raise ConfigError(
                f"weights of all pairs of candidates in memory_limit = {self.memory_limit / 10**9:.3g} GB, "
                f"enough for {int((self.memory_limit / _BYTES_A_PAIR) ** 0.5):,} candidates",
                f"{num_candidates:,} candidates, which need {needed / 10**9:.3g} GB",
                "EASE",
                "use ItemKNN, whose memory grows with the candidates alone, leave rare candidates out, "
                "or raise memory_limit if the machine has as much",
            )
        starts = range(0, num_candidates, _ROWS)
        strips = [self._gram(matrix, start, min(start + _ROWS, num_candidates)) for start in starts]
        try:
            invert_strips(strips, work.advance)
        except DataError as error:
            raise ConfigError("an l2 so large that XᵀX + l2 I can be inverted", str(self.l2), "EASE") from error
        self._weights = _weights(strips)

    def _gram(self, matrix: InteractionMatrix, first: int, last: int) -> Tensor:
        """Return rows of XᵀX + l2 I as far as the diagonal."""
        together = matrix.co_occurrences(first, last)
        assert together.weights is not None
        row, before = together.row_index(), together.values < last
        gram = torch.zeros(last - first, last, dtype=torch.float64)
        gram[row[before], together.values[before]] = together.weights[before]
        gram[:, first:].diagonal().add_(self.l2)
        return gram

    def score(self, histories: Jagged) -> Tensor:
        """Score all candidates: `(queries, candidates)` float32, the sum of B's rows over each history."""
        return torch.nn.functional.embedding_bag(
            histories.values,
            self._weights,
            histories.offsets,
            mode="sum",
            per_sample_weights=histories.weights,
            include_last_offset=True,
        )

    def learned(self) -> dict[str, Tensor]:
        """Return B as `weights`: `(candidates, candidates)` float32."""
        self._require_fitted()
        return {"weights": self._weights}

    def _restore(self, learned: Mapping[str, Tensor]) -> None:
        size = len(self.candidates)
        self._weights = require_tensors(learned, {"weights": (torch.float32, (size, size))}, "EASE")["weights"]


def _weights(strips: list[Tensor]) -> Tensor:
    """Return B from strips of -P, each of which is given up as soon as it is read."""
    diagonal = torch.cat([strip[:, strip.shape[1] - len(strip) :].diagonal() for strip in strips])
    weights = torch.empty(len(diagonal), len(diagonal))
    while strips:
        strip = strips.pop()
        first, last = strip.shape[1] - len(strip), strip.shape[1]
        weights[first:last, :last] = strip / -diagonal[:last]
        weights[:first, first:last] = strip[:, :first].T / -diagonal[first:last]
    return weights.fill_diagonal_(0.0)
