"""Pointwise losses on logits: every row on its own, with weights for classes or for easy rows."""

from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrank.core.arguments import check_number
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import checked, checked_weight
from retrank.losses.reduction import Reduction, check_reduction, check_shape, reduced

__all__ = ["FocalLoss", "PointwiseLoss", "WeightedBCELoss"]


class PointwiseLoss(Configurable, nn.Module, ABC):
    """A loss of one logit and one label per entry, of any shape.

    Args:
        reduction: `"mean"` over all entries, masked ones included; `"sum"`; or `"none"`.

    Raises:
        ConfigError: an unknown reduction.
    """

    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        check_reduction(reduction, type(self).__name__)
        self.reduction = reduction

    def forward(
        self, logits: Tensor, labels: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            logits: floats of any shape.
            labels: of the same shape, from 0 to 1.
            mask: of the same shape, bool, False for entries that take no part; None for none.
            weight: of the same shape, factor of each entry's loss, or None.

        Returns:
            A scalar, or with reduction `"none"` a tensor like the logits.

        Raises:
            ShapeError: shapes or dtypes that do not fit.
            DataError: a label outside of [0, 1], or a weight that is negative or not finite. On a GPU the loss becomes
                NaN instead.
        """
        where = type(self).__name__
        logits, labels = as_tensor(logits, "logits", where), as_tensor(labels, "labels", where)
        mask, weight = as_tensor_or_none(mask, "mask", where), as_tensor_or_none(weight, "weight", where)
        if not logits.is_floating_point():
            raise ShapeError("float logits", str(logits.dtype), where, "are logits and labels swapped?")
        for name, tensor in (("labels", labels), ("mask", mask), ("weight", weight)):
            check_shape(tensor, logits.shape, name, where)
        if mask is not None and mask.dtype != torch.bool:
            raise ShapeError("a bool mask", str(mask.dtype), where, "True keeps an entry")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits)
        if mask is not None:
            logits, labels = logits.where(mask, 0), labels.where(mask, 0)  # NaN under the mask must not spread
        labels = checked(labels, 0, 1, expected="labels from 0 to 1", where=where, name="labels")
        weight = None if weight is None else checked_weight(weight if mask is None else weight.where(mask, 0), where)
        losses = self._losses(logits, labels)
        return reduced(losses if mask is None else losses.where(mask, 0), weight, self.reduction)

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return one loss per entry."""


@final
class WeightedBCELoss(PointwiseLoss):
    """Binary cross-entropy in which the positive class counts more, or less.

    The loss is -positive_weight·label·log(p) - (1 - label)·log(1 - p) with p = sigmoid(logit). The predicted odds come
    out multiplied by positive_weight: divide by it where probabilities must be calibrated.

    Args:
        positive_weight: e.g. negatives / positives of the training rows.
        reduction: `"mean"` over all entries, `"sum"` or `"none"`.

    Raises:
        ConfigError: a positive_weight that is not above 0, or an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> loss = rr.losses.WeightedBCELoss(positive_weight=3.0, reduction="none")
        >>> loss(torch.zeros(2), torch.tensor([1.0, 0.0]))  # 3 log 2, log 2
        tensor([2.0794, 0.6931])

    Source: `pos_weight` of `torch.nn.BCEWithLogitsLoss`, here with mask and weights.
    """

    def __init__(self, positive_weight: float = 1.0, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_number(positive_weight, "positive_weight", "WeightedBCELoss", above=0)
        self.positive_weight = positive_weight

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.positive_weight * labels * F.softplus(-logits) + (1 - labels) * F.softplus(logits)


@final
class FocalLoss(PointwiseLoss):
    """Binary cross-entropy in which rows that are already right count less.

    The loss of label 1 is -alpha·(1 - p)^gamma·log(p) with p = sigmoid(logit), that of label 0
    -(1 - alpha)·p^gamma·log(1 - p); a label between 0 and 1 mixes them.

    Args:
        gamma: 0 gives cross-entropy; the larger, the less easy rows count.
        alpha: share of the positive class in (0, 1), or None for a factor of 1 on both.
        reduction: `"mean"` over all entries, `"sum"` or `"none"`.

    Raises:
        ConfigError: a gamma below 0, an alpha outside of (0, 1), or an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> loss = rr.losses.FocalLoss(reduction="none")
        >>> loss(torch.zeros(2), torch.tensor([1.0, 0.0]))  # (1 / 2)² log 2
        tensor([0.1733, 0.1733])

    Source: Lin et al. (2017), "Focal Loss for Dense Object Detection".
    """

    def __init__(self, gamma: float = 2.0, *, alpha: float | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_number(gamma, "gamma", "FocalLoss", least=0)
        check_number(alpha, "alpha", "FocalLoss", above=0)
        if alpha is not None and not alpha < 1:
            raise ConfigError("an alpha in (0, 1), or None", str(alpha), "FocalLoss", "None weighs them equally")
        self.gamma, self.alpha = gamma, alpha

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        # In logarithms: p^gamma of a float32 p that has become 0 would have an infinite gradient for gamma < 1.
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = -torch.exp(self.gamma * log_not_p) * log_p
        negative = -torch.exp(self.gamma * log_p) * log_not_p
        share, other = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        return share * labels * positive + other * (1 - labels) * negative
