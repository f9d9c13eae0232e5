"""Metrics of scored lists in which an item is relevant or not."""

from abc import abstractmethod
from typing import Literal, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.metrics.list_metric import ListMetric, Ties, WithoutRelevant

__all__ = [
    "BinaryListMetric",
    "Denominator",
    "HitRate",
    "MeanAveragePrecision",
    "MeanReciprocalRank",
    "PrecisionAtK",
    "RecallAtK",
]

Denominator = Literal["relevant", "attainable"]


class BinaryListMetric(ListMetric):
    """A metric of lists whose items are relevant from a label on.

    Args:
        k: the first k places count; None for all.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.
    """

    def __init__(
        self,
        k: int | None = None,
        *,
        relevant_from: float = 1.0,
        ties: Ties = "stable",
        without_relevant: WithoutRelevant = "zero",
        name: str | None = None,
    ) -> None:
        super().__init__(name, k, ties, without_relevant)
        self.relevant_from = relevant_from

    def _relevance(self, labels: Tensor) -> Tensor:
        return (labels >= self.relevant_from).to(labels)

    def _values(self, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
        return self._values_at_k(relevance[:, : self.k], relevance, weight, valid)

    @abstractmethod
    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
        """Return the values, given which of the first k places are hits."""


@final
class PrecisionAtK(BinaryListMetric):
    """Share of the first k places that are relevant; of a list shorter than k, of its items.

    Args:
        k: the first k places count; None for all.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.PrecisionAtK(2)
        >>> metric.update(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([[1, 1, 0]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: `PrecisionAtK` of Keras-RS, whose ties are random.
    """

    default_name = "precision"

    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        return hits.sum(dim=1) / valid[:, : self.k].sum(dim=1).clamp(min=1)


@final
class RecallAtK(BinaryListMetric):
    """Share of the relevant items that are among the first k places.

    Args:
        k: the first k places count; None for all.
        denominator: `"relevant"` divides by all relevant items; `"attainable"` by at most k of them, so that the best
            list has 1.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.

    Raises:
        ConfigError: an unknown denominator.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.RecallAtK(1)
        >>> metric.update(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([[1, 1, 0]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: `RecallAtK` of Keras-RS; with `"attainable"`, `RecallAt` of NVIDIA Merlin.
    """

    default_name = "recall"

    def __init__(
        self,
        k: int | None = None,
        *,
        denominator: Denominator = "relevant",
        relevant_from: float = 1.0,
        ties: Ties = "stable",
        without_relevant: WithoutRelevant = "zero",
        name: str | None = None,
    ) -> None:
        super().__init__(k, relevant_from=relevant_from, ties=ties, without_relevant=without_relevant, name=name)
        self.denominator = _checked(denominator, "RecallAtK")

    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        total = relevance.sum(dim=1)
        if self.denominator == "attainable" and self.k is not None:
            total = total.clamp(max=self.k)
        return hits.sum(dim=1) / total.clamp(min=1)


@final
class HitRate(BinaryListMetric):
    """Share of the lists that have a relevant item among the first k places.

    Args:
        k: the first k places count; None for all.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.HitRate(1)
        >>> metric.update(torch.tensor([[0.1, 0.9], [0.3, 0.2]]), torch.tensor([[1, 0], [1, 0]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: top-k categorical accuracy of Keras, where a list has one relevant item.
    """

    default_name = "hit_rate"

    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        return (hits.sum(dim=1) > 0).to(hits)


@final
class MeanReciprocalRank(BinaryListMetric):
    """1 / the rank of the first relevant item; 0 if it is not among the first k places.

    Args:
        k: the first k places count; None for all.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.MeanReciprocalRank()
        >>> metric.update(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([[1, 0, 1]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    Source: `MeanReciprocalRank` of Keras-RS; Voorhees (1999).
    """

    default_name = "mrr"

    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        is_first = (hits > 0) & (hits.cumsum(dim=1) == 1)
        return (is_first / _ranks(hits)).sum(dim=1)


@final
class MeanAveragePrecision(BinaryListMetric):
    """The mean of the precision at each relevant item; relevant items beyond the first k places count 0.

    Each relevant item counts by its weight: Σ weight·precision / Σ weight.

    Args:
        k: the first k places count; None for all.
        denominator: `"attainable"` divides by at most k relevant items, those of most weight, so that the best list
            has 1; `"relevant"` by all.
        relevant_from: the smallest label of a relevant item.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without a relevant item counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.

    Raises:
        ConfigError: an unknown denominator.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.MeanAveragePrecision()
        >>> metric.update(torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[1, 0, 1]]))
        >>> metric.compute()  # (1 + 2 / 3) / 2
        tensor(0.8333, dtype=torch.float64)

    Source: `AvgPrecisionAt` of NVIDIA Merlin; with `"relevant"`, `MeanAveragePrecision` of Keras-RS.
    """

    default_name = "map"

    def __init__(
        self,
        k: int | None = None,
        *,
        denominator: Denominator = "attainable",
        relevant_from: float = 1.0,
        ties: Ties = "stable",
        without_relevant: WithoutRelevant = "zero",
        name: str | None = None,
    ) -> None:
        super().__init__(k, relevant_from=relevant_from, ties=ties, without_relevant=without_relevant, name=name)
        self.denominator = _checked(denominator, "MeanAveragePrecision")

    def _values_at_k(self, hits: Tensor, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        precisions = hits.cumsum(dim=1) / _ranks(hits)
        total = weight * relevance
        if self.denominator == "attainable":
            total = total.sort(dim=1, descending=True).values[:, : self.k]
        best = total.sum(dim=1)
        return (weight[:, : self.k] * hits * precisions).sum(dim=1) / best.where(best > 0, 1)


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[1] + 1, dtype=hits.dtype, device=hits.device)


def _checked(denominator: Denominator, where: str) -> Denominator:
    if denominator not in ("relevant", "attainable"):
        raise ConfigError("denominator 'relevant' or 'attainable'", repr(denominator), where)
    return denominator
