"""Losses of one positive, in column 0, against sampled negatives, in all other columns.

They fit the scores of `rr.tasks.RetrievalScorer`. A negative that the mask calls invalid has no loss, and a score of
-inf takes no part at all. The mean is over all entries of `(batch, negatives)`, invalid ones included, so that a row
with few valid negatives does not count more for them. A row without a positive has weight 0. Where a tensor is meant, a
NumPy array means the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.arguments import check_number
from retrank.losses.reduction import Reduction
from retrank.losses.sampled_scores import checked_inputs, finite_negatives, is_removed, reduced_valid
from retrank.losses.softmax import softmax_cross_entropy

__all__ = ["bpr", "bpr_max", "cross_entropy", "hinge", "logistic", "top1", "top1_max", "top1_v2"]


def cross_entropy(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -log softmax of the positive among itself and the valid negatives.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's loss, or None.
        reduction: `"mean"` over rows, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch,)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> scores, valid = torch.zeros(1, 4), torch.tensor([[True, False, False]])
        >>> round(rr.losses.cross_entropy(scores, valid).item(), 4)  # log 2
        0.6931

    Source: sampled softmax, Jean et al. (2015).
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "cross_entropy")
    if valid_negatives is not None:
        scores = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(~valid_negatives, -torch.inf)], dim=1)
    positives = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    return softmax_cross_entropy(scores, positives, weight, reduction=reduction)


def bpr(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -log sigmoid(positive - negative), the Bayesian personalised ranking loss.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> round(rr.losses.bpr(torch.tensor([[1.0, 1.0, 1.0]])).item(), 4)  # log 2
        0.6931

    Source: Rendle et al. (2009), "BPR: Bayesian personalized ranking from implicit feedback".
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "bpr")
    return reduced_valid(
        scores, F.softplus(finite_negatives(scores) - scores[:, :1]), valid_negatives, weight, reduction
    )


def bpr_max(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    l2: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -log(w · sigmoid(positive - negative)) + l2 · w · negative², w the softmax of the row's negatives.

    The softmax runs over all negatives with a score above -inf, valid or not.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        l2: factor of the squared scores, at least 0.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction, or a negative `l2`.

    Example:
        >>> import torch, retrank as rr
        >>> round(rr.losses.bpr_max(torch.zeros(1, 3)).item(), 4)  # log 2 for the pair, log 2 for the weight of 1/2
        1.3863

    Source: `bpr-max` of Merlin Models. Hidasi and Karatzoglou (2018), "Recurrent neural networks with top-k gains",
        take the logarithm of the sum over negatives instead, one loss per row.
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "bpr_max")
    check_number(l2, "l2", "bpr_max", least=0)
    negatives, log_share = finite_negatives(scores), _log_share(scores)
    losses = F.softplus(negatives - scores[:, :1]) - log_share + l2 * log_share.exp() * negatives.square()
    return reduced_valid(scores, losses, valid_negatives, weight, reduction)


def top1(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return sigmoid(negative - positive) + sigmoid(negative²): negatives ranked above, and a penalty.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> rr.losses.top1(torch.zeros(1, 3))
        tensor(1.)

    Source: Hidasi et al. (2016), "Session-based recommendations with recurrent neural networks".
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "top1")
    return reduced_valid(scores, _top1(scores), valid_negatives, weight, reduction)


def top1_v2(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the row's mean of `top1`, less sigmoid(positive²) / negatives, at each valid negative.

    The row's mean runs over all negatives with a score above -inf, valid or not, and divides by all columns.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction, the row's value wherever a negative is valid.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> rr.losses.top1_v2(torch.zeros(1, 3))  # 1 - 0.5 / 2
        tensor(0.7500)

    Source: `top1_v2` of Merlin Models, after the implementation of GRU4Rec.
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "top1_v2")
    entries = _top1(scores).masked_fill(is_removed(scores), 0)
    row = (entries.sum(dim=1, keepdim=True) - scores[:, :1].square().sigmoid()) / max(entries.shape[1], 1)
    return reduced_valid(scores, row.expand_as(entries), valid_negatives, weight, reduction)


def top1_max(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return w · `top1`, w the softmax of the row's negatives: those that rank high count most.

    The softmax runs over all negatives with a score above -inf, valid or not.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries (the weights of a row add up to 1, so it shrinks with the number of
            negatives), `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> rr.losses.top1_max(torch.zeros(1, 3))
        tensor(0.5000)

    Source: Hidasi and Karatzoglou (2018), "Recurrent neural networks with top-k gains".
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "top1_max")
    return reduced_valid(scores, _log_share(scores).exp() * _top1(scores), valid_negatives, weight, reduction)


def logistic(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return log(1 + exp(negative - positive)): the same numbers as `bpr`, by the name that pairwise ranking uses.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> rr.losses.logistic(scores) == rr.losses.bpr(scores)
        tensor(True)

    Source: Burges et al. (2005), RankNet; `logistic` of Merlin Models.
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "logistic")
    return bpr(scores, valid_negatives, weight, reduction=reduction)


def hinge(
    scores: Tensor,
    valid_negatives: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return max(0, 1 + negative - positive): no loss once the positive leads by 1.

    Args:
        scores: `(batch, 1 + negatives)`, the positive in column 0.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` factor of each row's losses, or None.
        reduction: `"mean"` over all entries, `"sum"`, or `"none"`.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU the loss becomes NaN instead.
        ConfigError: an unknown reduction.

    Example:
        >>> import torch, retrank as rr
        >>> rr.losses.hinge(torch.tensor([[2.0, 1.5, 0.0]]))  # 0.5 and 0
        tensor(0.2500)

    Source: Herbrich et al. (1999), ranking SVM; `hinge` of Merlin Models.
    """
    scores, valid_negatives, weight = checked_inputs(scores, valid_negatives, weight, reduction, "hinge")
    return reduced_valid(
        scores, F.relu(1 + finite_negatives(scores) - scores[:, :1]), valid_negatives, weight, reduction
    )


def _log_share(scores: Tensor) -> Tensor:
    removed = is_removed(scores) & ~is_removed(scores).all(dim=1, keepdim=True)  # a softmax of nothing would be NaN
    return finite_negatives(scores).masked_fill(removed, -torch.inf).log_softmax(dim=1)


def _top1(scores: Tensor) -> Tensor:
    negatives = finite_negatives(scores)
    return (negatives - scores[:, :1]).sigmoid() + negatives.square().sigmoid()
