"""Softmax cross-entropy of one positive column among all columns."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.arguments import check_number
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import checked_weight
from retrank.ops.softmax_by_torch import weighted

__all__ = ["softmax_cross_entropy"]

_IGNORE_NOTHING = torch.iinfo(torch.int64).min  # torch's default silently skips rows whose positive is -100


def softmax_cross_entropy(
    scores: Tensor,
    positives: Tensor,
    weight: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Return the mean of -log softmax(scores)[positive].

    A score of -inf takes its column out of the row and gets no gradient; taking the positive out makes the loss
    infinite. The loss of an empty batch is 0.

    Args:
        scores: `(batch, columns)`.
        positives: `(batch,)` int64, the positive column of each row.
        weight: `(batch,)` factor of each row's loss, or None.
        label_smoothing: the share of the target that is spread evenly over the columns of the row that take part, the
            positive included; from 0 to 1.
        reduction: `"mean"` is Σ weight·loss / batch (not / Σ weight), `"sum"` is Σ weight·loss, `"none"` is
            weight·loss.

    Returns:
        A scalar, or `(batch,)` without reduction.

    Raises:
        ShapeError: shapes or dtypes that do not fit.
        DataError: a positive outside of the columns, or a weight that is negative or not finite. On a GPU torch's
            device-side assertion stops the program for the first, and the loss is NaN for the second.
        ConfigError: an unknown reduction, or a smoothing out of its range.

    Example:
        >>> import torch, retrank as rr
        >>> scores = torch.tensor([[0.0, 0.0, -torch.inf], [1.0, 1.0, 1.0]])
        >>> loss = rr.losses.softmax_cross_entropy(scores, torch.tensor([0, 2]))  # (log 2 + log 3) / 2
        >>> round(loss.item(), 4)
        0.8959

    Source: `CategoricalCrossentropy(from_logits=True)` of Keras, whose mean also divides by the number of rows.
    """
    where = "softmax_cross_entropy"
    scores, positives = as_tensor(scores, "scores", where), as_tensor(positives, "positives", where)
    weight = as_tensor_or_none(weight, "weight", where)
    _check(scores, positives, weight, reduction)
    check_number(label_smoothing, "label_smoothing", where, least=0, most=1)
    weight = None if weight is None else checked_weight(weight, where)
    try:
        losses = F.cross_entropy(scores, positives, reduction="none", ignore_index=_IGNORE_NOTHING)
    except IndexError:
        row = int(((positives < 0) | (positives >= scores.shape[1])).nonzero()[0])
        raise DataError(
            f"a column in [0, {scores.shape[1]})", str(int(positives[row])), f"positives, row {row}"
        ) from None
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * _spread_losses(scores)
    losses = weighted(losses, weight)
    if reduction == "none":
        return losses
    return losses.sum() / max(len(scores), 1) if reduction == "mean" else losses.sum()


def _spread_losses(scores: Tensor) -> Tensor:
    """Return the mean of -log softmax over the columns of each row that take part."""
    removed = scores == -torch.inf
    logs = scores.log_softmax(dim=1).masked_fill(removed, 0)
    return -logs.sum(dim=1) / (~removed).sum(dim=1)


def _check(scores: Tensor, positives: Tensor, weight: Tensor | None, reduction: str) -> None:
    if scores.dim() != 2 or not scores.is_floating_point():
        raise _shape_error("float scores of shape (batch, columns)", scores)
    if positives.shape != scores.shape[:1] or positives.dtype != torch.int64:
        raise _shape_error(f"int64 positives of shape ({len(scores)},)", positives)
    if weight is not None and weight.shape != scores.shape[:1]:
        raise _shape_error(f"weight of shape ({len(scores)},)", weight)
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError("reduction 'mean', 'sum' or 'none'", repr(reduction), "softmax_cross_entropy")


def _shape_error(expected: str, tensor: Tensor) -> ShapeError:
    got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
    return ShapeError(expected, got, "softmax_cross_entropy", "scores have a row per query and a column per candidate")
