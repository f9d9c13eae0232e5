"""How recommendations are spread over the catalogue."""

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.metrics.metric import SumMetric
from retrank.metrics.recommended import EXPECTED, at_k, check_num_places, filled_places, first_places

__all__ = ["CatalogueCoverage", "ExposureMetric", "GiniIndex"]


class ExposureMetric(SumMetric):
    """A metric of how often each candidate of the catalogue was recommended; 8 bytes per candidate.

    Args:
        num_candidates: rows of the catalogue, recommended or not.
        k: the first k places count; None for all.
        name: under which the result is reported.

    Raises:
        ConfigError: no candidate, or a k below 1.
    """

    def __init__(self, num_candidates: int, k: int | None, name: str) -> None:
        check_num_places(k, type(self).__name__)
        if num_candidates < 1:
            raise ConfigError("at least one candidate", str(num_candidates), type(self).__name__, "give len(catalogue)")
        super().__init__(name, num_sums=num_candidates + 1)
        self.num_candidates, self.k = num_candidates, k

    @torch.no_grad()
    def update(self, recommended: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch of lists.

        Args:
            recommended: `(queries, places)` int64 candidate rows, best place first; -1 for an empty place.
            weight: `(queries,)` or None for 1: how often each list is shown.

        Raises:
            ShapeError: tensors that do not fit.
        """
        rows, weight = first_places(recommended, weight, self.k, self.name)
        filled, bad = filled_places(rows, weight, self.num_candidates)
        exposure = weight[:, None].expand_as(filled).where(filled, 0).flatten()
        counts = exposure.new_zeros(self.num_candidates)
        counts.index_add_(0, rows.clamp(0, self.num_candidates - 1).flatten(), exposure)
        self._add(torch.cat([counts, bad.sum()[None]]))
        self.num_rows += len(rows)

    def compute(self) -> Tensor:
        """Return the value over all lists so far, a float64 scalar; NaN before the first recommendation.

        Raises:
            DataError: rows that are no candidates, or bad weights, were counted.
        """
        self._check_bad_rows(self._sums[-1], EXPECTED)
        exposure = self._sums[:-1]
        return torch.where(exposure.sum() > 0, self._value_of_exposure(exposure), torch.nan)

    @abstractmethod
    def _value_of_exposure(self, exposure: Tensor) -> Tensor:
        """Return the value, given the weight with which each candidate was recommended."""


@final
class CatalogueCoverage(ExposureMetric):
    """Share of the candidates that were recommended at all.

    Args:
        num_candidates: rows of the catalogue, recommended or not.
        k: the first k places count; None for all.
        name: under which the result is reported; by default e.g. `"coverage@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.CatalogueCoverage(4)
        >>> metric.update(torch.tensor([[0, 1], [1, -1]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: Herlocker et al. (2004); `ItemCoverageAt` of NVIDIA Merlin.
    """

    def __init__(self, num_candidates: int, *, k: int | None = None, name: str | None = None) -> None:
        super().__init__(num_candidates, k, name or at_k("coverage", k))

    def _value_of_exposure(self, exposure: Tensor) -> Tensor:
        return (exposure > 0).double().mean()


@final
class GiniIndex(ExposureMetric):
    """How unevenly recommendations are spread over the catalogue: 0 if all candidates have as many, towards 1 if few.

    If one of n candidates has all recommendations, it is 1 - 1 / n.

    Args:
        num_candidates: rows of the catalogue, recommended or not.
        k: the first k places count; None for all.
        name: under which the result is reported; by default e.g. `"coverage@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.GiniIndex(4)
        >>> metric.update(torch.tensor([[2], [2], [2]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)

    Source: Gini (1912); Fleder and Hosanagar (2009) for recommendations.
    """

    def __init__(self, num_candidates: int, *, k: int | None = None, name: str | None = None) -> None:
        super().__init__(num_candidates, k, name or at_k("gini", k))

    def _value_of_exposure(self, exposure: Tensor) -> Tensor:
        ranks = torch.arange(1, self.num_candidates + 1, dtype=exposure.dtype, device=exposure.device)
        balance = 2 * ranks - self.num_candidates - 1
        return (balance * exposure.sort().values).sum() / (self.num_candidates * exposure.sum())
