"""Metrics of scored lists with graded labels: discounted cumulative gain."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Literal, final

import torch
from torch import Tensor

from retrank.core.config import to_config
from retrank.core.errors import ConfigError
from retrank.metrics.list_metric import ListMetric, Ties, WithoutRelevant

__all__ = ["DCG", "NDCG", "Discount", "Gain", "GainMetric"]

_Function = Callable[[Tensor], Tensor]
Gain = Literal["exponential", "linear"] | _Function
Discount = Literal["log", "reciprocal", "none"] | _Function

_GAINS: Final[Mapping[str, _Function]] = {"exponential": lambda labels: torch.exp2(labels) - 1, "linear": torch.clone}
_DISCOUNTS: Final[Mapping[str, _Function]] = {
    "log": lambda ranks: 1 / torch.log2(1 + ranks),
    "reciprocal": torch.reciprocal,
    "none": torch.ones_like,
}


class GainMetric(ListMetric):
    """A metric that sums weight(item)·gain(label)·discount(rank) over the first k places.

    Args:
        k: the first k places count; None for all.
        gain: `"exponential"` is 2^label - 1, `"linear"` the label; or a function of float64 labels that returns
            numbers of at least 0, an object that `rr.core.to_config` knows.
        discount: `"log"` is 1 / log2(1 + rank), `"reciprocal"` 1 / rank, `"none"` 1; or a function of float64 ranks
            from 1 on, such an object, too.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without any gain counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"ndcg"` or `"ndcg@10"`.

    Raises:
        ConfigError: an unknown gain or discount, or a function that cannot be written down.
    """

    def __init__(
        self,
        k: int | None = None,
        *,
        gain: Gain = "exponential",
        discount: Discount = "log",
        ties: Ties = "stable",
        without_relevant: WithoutRelevant = "zero",
        name: str | None = None,
    ) -> None:
        super().__init__(name, k, ties, without_relevant)
        self._gain = _named_function(gain, _GAINS, f"{type(self).__name__}(gain=...)")
        self._discount = _named_function(discount, _DISCOUNTS, f"{type(self).__name__}(discount=...)")

    def _relevance(self, labels: Tensor) -> Tensor:
        return self._gain(labels)

    def _values(self, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        return self._values_of_gains(relevance, weight)

    @abstractmethod
    def _values_of_gains(self, gains: Tensor, weight: Tensor) -> Tensor:
        """Return the values of lists of gains and weights in ranked order."""

    def _dcg(self, gains: Tensor) -> Tensor:
        gains = gains[:, : self.k]
        ranks = torch.arange(1, gains.shape[1] + 1, dtype=gains.dtype, device=gains.device)
        return (gains * self._discount(ranks)).sum(dim=1)


@final
class DCG(GainMetric):
    """Discounted cumulative gain: Σ gain(label)·discount(rank) over the first k places.

    The result is Σ weight(item)·gain·discount over all lists by the sum of the lists' weights.

    Args:
        k: the first k places count; None for all.
        gain: `"exponential"` is 2^label - 1, `"linear"` the label, or a function, see `GainMetric`.
        discount: `"log"` is 1 / log2(1 + rank), `"reciprocal"` 1 / rank, `"none"` 1, or a function.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without any gain counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"ndcg"` or `"ndcg@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.DCG(2)
        >>> metric.update(torch.tensor([[0.9, 0.1, 0.5]]), torch.tensor([[1, 2, 0]]))
        >>> metric.compute()  # the first place gains 1, the second 0
        tensor(1., dtype=torch.float64)

    Source: Järvelin and Kekäläinen (2002); `DCG` of Keras-RS.
    """

    default_name = "dcg"

    def _values_of_gains(self, gains: Tensor, weight: Tensor) -> Tensor:
        weighted, total = weight * gains, gains.sum(dim=1)
        by_gain = weighted.sum(dim=1) / total.where(total > 0, 1)  # the mean multiplies by it again
        return self._dcg(weighted) / by_gain.where(by_gain > 0, 1)


@final
class NDCG(GainMetric):
    """DCG as a share of the best possible list's: 1 for a list in the order of its (weighted) gains.

    Args:
        k: the first k places count; None for all.
        gain: `"exponential"` is 2^label - 1, `"linear"` the label, or a function, see `GainMetric`.
        discount: `"log"` is 1 / log2(1 + rank), `"reciprocal"` 1 / rank, `"none"` 1, or a function.
        ties: how equal scores are ranked, see `ListMetric`.
        without_relevant: how a list without any gain counts, see `ListMetric`.
        name: under which the result is reported; by default e.g. `"ndcg"` or `"ndcg@10"`.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.NDCG(gain="linear")
        >>> metric.update(torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]]), torch.tensor([[3, 1, 0], [1, 0, -1]]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)

    Source: Järvelin and Kekäläinen (2002); `NDCG` of Keras-RS. scikit-learn's gain is linear.
    """

    default_name = "ndcg"

    def _values_of_gains(self, gains: Tensor, weight: Tensor) -> Tensor:
        weighted = weight * gains
        best = self._dcg(weighted.sort(dim=1, descending=True).values)
        return self._dcg(weighted) / best.where(best > 0, 1)


def _named_function(given: str | _Function, named: Mapping[str, _Function], where: str) -> _Function:
    if isinstance(given, str):
        if given not in named:
            raise ConfigError(f"one of {sorted(named)}, or a function", repr(given), where)
        return named[given]
    try:
        to_config(given)
    except ConfigError:
        raise ConfigError(
            f"one of {sorted(named)}, or a function that can be written down",
            repr(given),
            where,
            "derive its class from rr.core.Configurable, so that metrics can be saved and merged",
        ) from None
    return given
