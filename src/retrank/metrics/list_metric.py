"""`ListMetric`: rank each list by its scores, judge it by its labels."""

from abc import abstractmethod
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.metrics.metric import SumMetric
from retrank.metrics.recommended import at_k

__all__ = ["ListMetric", "Ties", "WithoutRelevant"]

Ties = Literal["stable", "pessimistic"]
WithoutRelevant = Literal["zero", "skip", "mean_weight"]

_TIES: Final = ("stable", "pessimistic")
_WITHOUT_RELEVANT: Final = ("zero", "skip", "mean_weight")


class ListMetric(SumMetric):
    """A weighted mean over lists, each holding the scores and labels of one query's candidates.

    An item takes part if the mask says so, its label is at least 0 (so lists can be padded with -1) and it has weight.
    A list of which no item takes part is left out.

    With weights for items, a list's weight is their mean in the list, each counting by its relevance:
    Σ weight·relevance / Σ relevance.

    Equal scores are ranked by one of two rules, neither random:

    - `"stable"`: as they stand in the list. Where the relevant item always stands first, as it does in the scores of
      most samplers, a model with equal scores for all would look perfect;
    - `"pessimistic"`: smaller labels first, so that such a model looks as bad as it can be.

    A list without a relevant item can count in three ways:

    - `"zero"`: as 0 with its own weight, the mean of its items';
    - `"skip"`: not at all;
    - `"mean_weight"`: as 0 with the mean weight of the lists that have one, as in Keras-RS (there, within a batch;
      here over all lists, so that the batches do not matter).

    Args:
        name: under which the result is reported; by default e.g. `"recall"` or `"recall@10"`.
        k: the first k places count; None for all.
        ties: how equal scores are ranked.
        without_relevant: how a list without a relevant item counts.

    Raises:
        ConfigError: a k below 1 or an unknown rule.
    """

    larger_is_better: ClassVar[bool | None] = True

    default_name: ClassVar[str]
    """Under which results of this kind are reported, followed by `@k`, unless they are given a name."""

    def __init__(self, name: str | None, k: int | None, ties: Ties, without_relevant: WithoutRelevant) -> None:
        super().__init__(name or at_k(self.default_name, k), num_sums=6)
        where = type(self).__name__
        if k is not None and k < 1:
            raise ConfigError("k of at least 1, or None", str(k), where, "None takes the whole list")
        if ties not in _TIES:
            raise ConfigError(f"ties among {list(_TIES)}", repr(ties), where)
        if without_relevant not in _WITHOUT_RELEVANT:
            raise ConfigError(f"without_relevant among {list(_WITHOUT_RELEVANT)}", repr(without_relevant), where)
        self.k, self.ties, self.without_relevant = k, ties, without_relevant

    @torch.no_grad()
    def update(
        self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None, *, mask: Tensor | None = None
    ) -> None:
        """Count a batch of lists.

        Args:
            predictions: `(batch, list)` scores, in any order.
            labels: `(batch, list)`, larger is more relevant; below 0 for items that take no part.
            weight: `(batch,)` of lists or `(batch, list)` of items, or None for 1.
            mask: `(batch, list)` bool, False for items that take no part; None for none.

        Raises:
            ShapeError: shapes that do not fit.
        """
        where = f"metric '{self.name}'"
        predictions, labels = as_tensor(predictions, "predictions", where), as_tensor(labels, "labels", where)
        weight = as_tensor_or_none(weight, "weight", where)
        mask = as_tensor_or_none(mask, "mask", where)
        self._check(predictions, labels, weight, mask)
        scores = predictions.detach().double()
        labels = labels.detach().to(scores)
        weight = torch.ones_like(scores) if weight is None else weight.detach().to(scores)
        weight = weight if weight.dim() == 2 else weight[:, None].expand_as(scores)
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.to(scores.device)
        bad = mask & (scores.isnan() | ~labels.isfinite() | ~weight.isfinite() | (weight < 0))

        valid = mask & (labels >= 0) & (weight > 0)
        labels, weight = labels.where(valid, 0), weight.where(valid, 0)
        order = self._ranked_order(scores, labels, valid)
        labels, weight, valid = (part.gather(1, order) for part in (labels, weight, valid))
        relevance = self._relevance(labels).where(valid, 0)
        bad |= ~relevance.isfinite()  # 2^label of a large label

        total = relevance.sum(dim=1)
        relevant, irrelevant = total > 0, (total <= 0) & valid.any(dim=1)
        own = weight.sum(dim=1) / valid.sum(dim=1).clamp(min=1)
        by_relevance = (weight * relevance).sum(dim=1) / total.where(relevant, 1)
        values = self._values(relevance, weight, valid)
        self._add(
            torch.stack(
                [
                    (by_relevance * values).where(relevant, 0).sum(),
                    by_relevance.where(relevant, 0).sum(),
                    relevant.sum(),
                    own.where(irrelevant, 0).sum(),
                    irrelevant.sum(),
                    bad.any(dim=1).sum(),
                ]
            )
        )
        self.num_rows += len(scores)

    def compute(self) -> Tensor:
        """Return the mean over all lists so far, a float64 scalar; NaN before the first list that counts.

        Raises:
            DataError: scores that are NaN, labels that are not finite, or weights that are negative or not finite.
        """
        total, weight, num_relevant, irrelevant_weight, num_irrelevant, num_bad = self._sums
        self._check_bad_rows(
            num_bad, "lists of scores that are numbers, finite labels and gains, weights of at least 0"
        )
        mean_weight = torch.where(num_relevant > 0, weight / num_relevant, 1)
        other: dict[WithoutRelevant, Tensor] = {
            "zero": irrelevant_weight,
            "skip": torch.zeros_like(weight),
            "mean_weight": num_irrelevant * mean_weight,
        }
        value: Tensor = total / (weight + other[self.without_relevant])
        return value

    @abstractmethod
    def _relevance(self, labels: Tensor) -> Tensor:
        """Return how relevant each item is, at least 0; 0 is irrelevant."""

    @abstractmethod
    def _values(self, relevance: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
        """Return `(batch,)` values of lists in ranked order; all three are `(batch, list)`, 0 for invalid items."""

    def _ranked_order(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the items from first to last rank, invalid ones at the end: three stable sorts, the last one rules."""
        columns = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        order = labels.argsort(dim=1, stable=True) if self.ties == "pessimistic" else columns
        order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
        return order.gather(1, (~valid).gather(1, order).to(torch.int8).argsort(dim=1, stable=True))

    def _check(self, scores: Tensor, labels: Tensor, weight: Tensor | None, mask: Tensor | None) -> None:
        where = f"metric '{self.name}'"
        if scores.dim() != 2:
            raise ShapeError(
                "scores of shape (batch, list)", str(tuple(scores.shape)), where, "a single list is scores[None]"
            )
        for name, tensor in (("labels", labels), ("mask", mask)):
            if tensor is not None and tensor.shape != scores.shape:
                raise ShapeError(f"{name} of shape {tuple(scores.shape)}", str(tuple(tensor.shape)), where)
        if mask is not None and mask.dtype != torch.bool:
            raise ShapeError("a bool mask", str(mask.dtype), where, "True keeps an item")
        if weight is not None and weight.shape not in (scores.shape[:1], scores.shape):
            expected = f"weight of shape {tuple(scores.shape[:1])} or {tuple(scores.shape)}"
            raise ShapeError(expected, str(tuple(weight.shape)), where)
