"""What recommended lists are like apart from being right: how novel, how popular, how varied."""

from abc import abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError
from retrank.metrics.metric import SumMetric
from retrank.metrics.recommended import EXPECTED, at_k, check_num_places, filled_places, first_places, mean_sums

__all__ = ["IntraListDiversity", "Novelty", "PopularityBias", "PopularityMetric"]


class PopularityMetric(SumMetric):
    """A weighted mean over lists of the mean, over their places, of a function of each candidate's popularity.

    Args:
        k: the first k places count; None for all.
        name: under which the result is reported.

    Raises:
        ConfigError: a k below 1.
    """

    def __init__(self, k: int | None, name: str) -> None:
        check_num_places(k, type(self).__name__)
        super().__init__(name, num_sums=3)
        self.k = k

    @torch.no_grad()
    def update(self, recommended: Tensor, counts: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch of lists; a list without any candidate is left out.

        Args:
            recommended: `(queries, places)` int64 candidate rows, best place first; -1 for an empty place.
            counts: `(num_candidates,)` interactions of each candidate in the training data.
            weight: `(queries,)` or None for 1.

        Raises:
            ShapeError: tensors that do not fit.
        """
        rows, weight = first_places(recommended, weight, self.k, self.name)
        if counts.dim() != 1 or not len(counts):
            raise ShapeError("counts of shape (num_candidates,)", str(tuple(counts.shape)), f"metric '{self.name}'")
        filled, bad = filled_places(rows, weight, len(counts))
        counts = counts.to(weight)
        bad |= ((counts < 0) | ~counts.isfinite()).any()
        values = self._candidate_values(counts)[rows.clamp(0, len(counts) - 1)].where(filled, 0)
        self._add(mean_sums(values.sum(dim=1), filled.sum(dim=1), weight, bad))
        self.num_rows += len(rows)

    def compute(self) -> Tensor:
        """Return the mean over all lists so far, a float64 scalar; NaN before the first list.

        Raises:
            DataError: rows that are no candidates, or bad counts or weights, were counted.
        """
        total, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, f"{EXPECTED}, counts of at least 0")
        mean: Tensor = total / weight
        return mean

    @abstractmethod
    def _candidate_values(self, counts: Tensor) -> Tensor:
        """Return one value per candidate."""


@final
class Novelty(PopularityMetric):
    """Mean of -log2 p of the recommended candidates, p being each one's share of the interactions: bits of surprise.

    Args:
        k: the first k places count; None for all.
        smoothing: added to each count, so that a candidate without interactions is novel, but not infinitely so.
        name: under which the result is reported; by default e.g. `"novelty@10"`.

    Raises:
        ConfigError: a smoothing below 0, or a k below 1.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.Novelty(smoothing=0)
        >>> metric.update(torch.tensor([[0, 1]]), counts=torch.tensor([2, 1, 1]))  # 1 bit and 2 bits
        >>> metric.compute()
        tensor(1.5000, dtype=torch.float64)

    Source: Zhou et al. (2010), mean self-information; `NoveltyAt` of NVIDIA Merlin, in natural logarithms.
    """

    def __init__(self, *, k: int | None = None, smoothing: float = 1.0, name: str | None = None) -> None:
        super().__init__(k, name or at_k("novelty", k))
        if not smoothing >= 0:
            raise ConfigError("a smoothing of at least 0", str(smoothing), "Novelty", "1.0 is usual")
        self.smoothing = smoothing

    def _candidate_values(self, counts: Tensor) -> Tensor:
        smooth = counts + self.smoothing
        return -torch.log2(smooth / smooth.sum())


@final
class PopularityBias(PopularityMetric):
    """Mean popularity of the recommended candidates by the mean popularity of the catalogue.

    It is 1 for candidates drawn at random, and above 1 for more popular ones.

    Args:
        k: the first k places count; None for all.
        name: under which the result is reported; by default e.g. `"novelty@10"`.

    Raises:
        ConfigError: a k below 1.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.PopularityBias(k=1)
        >>> metric.update(torch.tensor([[0, 1]]), counts=torch.tensor([2, 1, 0]))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)

    Source: Abdollahpouri et al. (2019), average recommendation popularity, relative to the catalogue's.
        `PopularityBiasAt` of NVIDIA Merlin is the share of all interactions: this / num_candidates.
    """

    def __init__(self, *, k: int | None = None, name: str | None = None) -> None:
        super().__init__(k, name or at_k("popularity_bias", k))

    def _candidate_values(self, counts: Tensor) -> Tensor:
        return counts / counts.mean()


@final
class IntraListDiversity(SumMetric):
    """Mean distance, 1 - cosine, between the candidates of a list: 0 if all are the same, 1 if unrelated, at most 2.

    A list of fewer than two candidates has no pairs and is left out. A zero vector is at distance 1 from all.

    Args:
        k: the first k places count; None for all.
        name: under which the result is reported; by default e.g. `"novelty@10"`.

    Raises:
        ConfigError: a k below 1.

    Example:
        >>> import torch, retrank as rr
        >>> embeddings = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> metric = rr.metrics.IntraListDiversity()
        >>> metric.update(torch.tensor([[0, 1], [0, 2]]), embeddings)  # 0 and 1
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: Ziegler et al. (2005), as a distance; Smyth and McClave (2001).
    """

    def __init__(self, *, k: int | None = None, name: str | None = None) -> None:
        check_num_places(k, "IntraListDiversity")
        super().__init__(name or at_k("diversity", k), num_sums=3)
        self.k = k

    @torch.no_grad()
    def update(self, recommended: Tensor, embeddings: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch of lists.

        Args:
            recommended: `(queries, places)` int64 candidate rows, best place first; -1 for an empty place.
            embeddings: `(num_candidates, dim)` what the candidates are like: learned vectors, or one-hot genres.
            weight: `(queries,)` or None for 1.

        Raises:
            ShapeError: tensors that do not fit.
        """
        rows, weight = first_places(recommended, weight, self.k, self.name)
        if embeddings.dim() != 2 or not len(embeddings):
            got = str(tuple(embeddings.shape))
            raise ShapeError("embeddings of shape (num_candidates, dim)", got, f"metric '{self.name}'")
        filled, bad = filled_places(rows, weight, len(embeddings))
        vectors = embeddings.detach()[rows.clamp(0, len(embeddings) - 1)].to(weight)
        bad |= (filled & ~vectors.isfinite().all(dim=2)).any(dim=1)
        vectors = F.normalize(vectors, dim=2).where(filled[:, :, None], 0)
        number = filled.sum(dim=1)
        # Over ordered pairs, Σ cosine = |Σ vector|² - Σ |vector|²: no matrix of pairs is needed.
        similar = vectors.sum(dim=1).square().sum(dim=1) - vectors.square().sum(dim=(1, 2))
        pairs = number * (number - 1)
        self._add(mean_sums(pairs - similar, pairs, weight, bad))
        self.num_rows += len(rows)

    def compute(self) -> Tensor:
        """Return the mean over all lists so far, a float64 scalar; NaN before the first list with a pair.

        Raises:
            DataError: rows that are no candidates, embeddings that are not finite, or bad weights, were counted.
        """
        total, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, f"finite embeddings, {EXPECTED}")
        mean: Tensor = total / weight
        return mean
