"""Scores of a positive, in column 0, and of its sampled negatives, in all other columns: checked, masked, reduced."""

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import checked_weight
from retrank.losses.reduction import Reduction, check_reduction, check_shape, reduced

__all__ = ["checked_inputs", "finite_negatives", "is_removed", "reduced_valid"]


def checked_inputs(
    scores: object, valid: object, weight: object, reduction: str, where: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Check what a loss is given.

    Args:
        scores: `(batch, 1 + negatives)` floats.
        valid: `(batch, negatives)` bool, or None.
        weight: `(batch,)` or None.
        reduction: the name of one.
        where: the loss, for messages.

    Returns:
        Scores, mask and weight as tensors.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a weight that is negative or not finite; on a GPU it becomes NaN instead.
        ConfigError: an unknown reduction.
    """
    check_reduction(reduction, where)
    scores, weight = as_tensor(scores, "scores", where), as_tensor_or_none(weight, "weight", where)
    valid = as_tensor_or_none(valid, "valid_negatives", where)
    if scores.dim() != 2 or scores.shape[1] == 0 or not scores.is_floating_point():
        got = f"{scores.dtype} of shape {tuple(scores.shape)}"
        raise ShapeError("float scores of shape (batch, 1 + negatives)", got, where, "put the positive in column 0")
    check_shape(valid, scores[:, 1:].shape, "valid_negatives", where)
    check_shape(weight, scores.shape[:1], "weight", where)
    if valid is not None and valid.dtype != torch.bool:
        raise ShapeError("bool valid_negatives", str(valid.dtype), where)
    return scores, valid, None if weight is None else checked_weight(weight, where)


def is_removed(scores: Tensor) -> Tensor:
    """Return `(batch, negatives)` bool, which negatives take no part.

    Args:
        scores: `(batch, 1 + negatives)`.
    """
    return scores[:, 1:] == -torch.inf


def finite_negatives(scores: Tensor) -> Tensor:
    """Return `(batch, negatives)` scores with 0 for what is removed.

    A removed score has no loss whatever its value; a finite one keeps infinities out of the gradient.

    Args:
        scores: `(batch, 1 + negatives)`.
    """
    return scores[:, 1:].masked_fill(is_removed(scores), 0)


def reduced_valid(
    scores: Tensor, losses: Tensor, valid_negatives: Tensor | None, weight: Tensor | None, reduction: Reduction
) -> Tensor:
    """Weigh the losses of valid negatives and reduce them; see `reduced`.

    Args:
        scores: `(batch, 1 + negatives)`.
        losses: `(batch, negatives)`.
        valid_negatives: `(batch, negatives)` bool, or None for all.
        weight: `(batch,)` or None.
        reduction: how.

    Returns:
        A scalar, or `(batch, negatives)` without reduction.
    """
    valid = ~is_removed(scores) if valid_negatives is None else valid_negatives & ~is_removed(scores)
    weight = None if weight is None else weight[:, None].expand_as(losses)
    return reduced(losses.where(valid, 0), weight, reduction)
