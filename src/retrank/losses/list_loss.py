"""`ListLoss`: scores of lists of candidates against their labels."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from retrank.core.arguments import check_number
from retrank.core.config import Configurable
from retrank.core.errors import ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import FINITE, checked, checked_weight
from retrank.losses.reduction import Reduction, check_reduction, check_shape, reduced

__all__ = ["ListLoss"]


class ListLoss(Configurable, nn.Module, ABC):
    """A loss of lists: each row holds the scores of one query's candidates, in any order.

    An item takes part if the mask says so and its label is at least 0, so that lists can be padded with -1. What takes
    no part changes nothing and gets no gradient, whatever its score.

    Args:
        temperature: scores are divided by it.
        reduction: `"mean"` over lists or items, padding included; `"sum"`; or `"none"`.

    Raises:
        ConfigError: a temperature that is not above 0 or not finite, or an unknown reduction.
    """

    max_label: ClassVar[float] = FINITE
    """Larger labels are refused."""

    def __init__(self, temperature: float, reduction: Reduction) -> None:
        super().__init__()
        check_reduction(reduction, type(self).__name__)
        check_number(temperature, "temperature", type(self).__name__, above=0)
        self.temperature, self.reduction = temperature, reduction

    def forward(
        self, scores: Tensor, labels: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            scores: `(batch, list)` floats.
            labels: `(batch, list)`, larger is more relevant; below 0 for items that take no part.
            mask: `(batch, list)` bool, False for items that take no part; None for none.
            weight: `(batch,)` factor of each list's loss, or, if the loss has one entry per item, `(batch, list)`.

        Returns:
            A scalar; with reduction `"none"` one entry per list `(batch,)` or per item `(batch, list)`, see the loss.

        Raises:
            ShapeError: shapes or dtypes that do not fit.
            DataError: a label that is NaN, infinite or too large, or a weight that is negative or not finite. On a GPU
                the loss becomes NaN instead.
        """
        where = type(self).__name__
        scores, labels = as_tensor(scores, "scores", where), as_tensor(labels, "labels", where)
        mask, weight = as_tensor_or_none(mask, "mask", where), as_tensor_or_none(weight, "weight", where)
        if scores.dim() != 2 or not scores.is_floating_point():
            got = f"{scores.dtype} of shape {tuple(scores.shape)}"
            raise ShapeError("float scores of shape (batch, list)", got, where, "a single list is scores[None]")
        check_shape(labels, scores.shape, "labels", where)
        check_shape(mask, scores.shape, "mask", where)
        if mask is not None and mask.dtype != torch.bool:
            raise ShapeError("a bool mask", str(mask.dtype), where, "True keeps an item")
        is_padding = labels < 0  # NaN is none: it must not fall out of the loss
        valid = ~is_padding if mask is None else mask & ~is_padding
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / self.temperature
        labels = self._checked_labels(labels.to(scores).where(valid, 0))
        losses = self._losses(scores.where(valid, 0), labels, valid)
        not_a_number = (labels * 0).sum(dim=1)  # comparisons of labels would ignore NaN silently
        losses = losses + not_a_number.view(-1, *[1] * (losses.dim() - 1))
        if weight is not None:
            weight = checked_weight(weight, where)
            if weight.shape == scores.shape[:1]:
                weight = weight[:, None].expand_as(losses) if losses.dim() == 2 else weight
            check_shape(weight, losses.shape, "weight", where)
        return reduced(losses, weight, self.reduction)

    def _checked_labels(self, labels: Tensor) -> Tensor:
        limit = "" if self.max_label == FINITE else f" of at most {self.max_label:g}, since gains are 2^label"
        expected = f"finite labels{limit}"
        return checked(labels, 0, self.max_label, expected=expected, where=type(self).__name__, name="labels")

    @abstractmethod
    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return `(batch,)` or `(batch, list)` losses of scores that have been divided by the temperature.

        Scores and labels are 0 where `valid` is False.
        """
