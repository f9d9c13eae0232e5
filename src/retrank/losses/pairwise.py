"""Pairwise losses: in every list, each item should score above the items with a smaller label."""

from abc import abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.losses.list_loss import ListLoss
from retrank.losses.reduction import Reduction

__all__ = [
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseLoss",
    "PairwiseMeanSquaredError",
    "PairwiseSoftZeroOneLoss",
]


class PairwiseLoss(ListLoss):
    """For each item i, the sum of a loss of (score_i - score_j) / temperature over all items j with a smaller label.

    There is one entry per item, so the mean divides by items and not by pairs. Memory grows with the square of the
    lists' length.

    Args:
        temperature: score differences are divided by it.
        reduction: `"mean"` over items, `"sum"` or `"none"`.

    Raises:
        ConfigError: a temperature that is not above 0, or an unknown reduction.
    """

    def __init__(self, *, temperature: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(temperature, reduction)

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        ordered = (labels[:, :, None] > labels[:, None, :]) & valid[:, :, None] & valid[:, None, :]
        return self._difference_losses(scores[:, :, None] - scores[:, None, :]).where(ordered, 0).sum(dim=2)

    @abstractmethod
    def _difference_losses(self, differences: Tensor) -> Tensor:
        """Return the loss of each score difference, which should be large."""


@final
class PairwiseHingeLoss(PairwiseLoss):
    """Pairwise loss max(0, 1 - difference): no loss for pairs that are apart by the temperature.

    Args:
        temperature: score differences are divided by it.
        reduction: `"mean"` over items, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[0.0, 0.5, 9.0]]), torch.tensor([[1.0, 0.0, -1.0]])
        >>> rr.losses.PairwiseHingeLoss(reduction="sum")(scores, labels)  # 1 - (0 - 0.5); the third is padding
        tensor(1.5000)

    Source: Herbrich et al. (1999), ranking SVM; `PairwiseHingeLoss` of Keras-RS.
    """

    def _difference_losses(self, differences: Tensor) -> Tensor:
        return torch.relu(1 - differences)


@final
class PairwiseLogisticLoss(PairwiseLoss):
    """Pairwise loss log(1 + exp(-difference)): RankNet, the smooth hinge.

    Args:
        temperature: score differences are divided by it.
        reduction: `"mean"` over items, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
        >>> rr.losses.PairwiseLogisticLoss(reduction="sum")(scores, labels)  # log 2
        tensor(0.6931)

    Source: Burges et al. (2005), "Learning to Rank using Gradient Descent"; `PairwiseLogisticLoss` of Keras-RS.
    """

    def _difference_losses(self, differences: Tensor) -> Tensor:
        return F.softplus(-differences)


@final
class PairwiseSoftZeroOneLoss(PairwiseLoss):
    """Pairwise loss sigmoid(-difference): a smooth count of the pairs in wrong order, bounded for outliers.

    Args:
        temperature: score differences are divided by it.
        reduction: `"mean"` over items, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> rr.losses.PairwiseSoftZeroOneLoss(reduction="sum")(scores, labels)
        tensor(0.9999)

    Source: `PairwiseSoftZeroOneLoss` of Keras-RS.
    """

    def _difference_losses(self, differences: Tensor) -> Tensor:
        return torch.sigmoid(-differences)


@final
class PairwiseMeanSquaredError(ListLoss):
    """For each item i, the sum of ((label_i - label_j) - (score_i - score_j))² over all other items j of its list.

    Differences of scores are regressed on differences of labels, so a constant added to a list's scores is free. Pairs
    of equal labels count, too. There is one entry per item.

    Args:
        reduction: `"mean"` over items, `"sum"` or `"none"`.

    Raises:
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[7.0, 5.0]]), torch.tensor([[1.0, 0.0]])
        >>> rr.losses.PairwiseMeanSquaredError()(scores, labels)  # (1 - 2)² for either item
        tensor(1.)

    Source: what `PairwiseMeanSquaredError` of Keras-RS computes. Its documentation states another formula, and its
        temperature does nothing; this class has none.
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(1.0, reduction)

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        errors = labels - scores
        squares = (errors[:, :, None] - errors[:, None, :]).square()
        return squares.where(valid[:, :, None] & valid[:, None, :], 0).sum(dim=2)
