"""`dot_interaction`: the dot products of all pairs of features."""

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.native import call, is_native
from retrank.ops.checks import require_floats
from retrank.ops.derivation import derive_by_torch

__all__ = ["dot_interaction"]


def dot_interaction(fields: Sequence[Tensor], *, self_interaction: bool = False) -> Tensor:
    """Multiply each feature with each other.

    On the CPU a kernel makes all pairs of a row at a time, never all F² products of a batch.

    Args:
        fields: F tensors `(batch, dim)` of floats, at least one.
        self_interaction: whether the pair of each feature with itself counts.

    Returns:
        `(batch, F (F - 1) / 2)`, the lower triangle row by row; with the diagonal `(batch, F (F + 1) / 2)`.
        Differentiable as often as you like.

    Raises:
        ShapeError: no features, or ones that differ in shape, dtype or device.

    Example:
        >>> import torch
        >>> from retrank.ops.dot_interaction import dot_interaction
        >>> dot_interaction([torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 4.0]])])
        tensor([[ 2.,  0., 12.]])
    """
    _check(fields)
    if fields[0].shape[1] == 0 or torch.is_autocast_enabled("cpu") or not is_native(*fields):
        return _by_torch(self_interaction, *fields)
    products: Tensor = _DotInteraction.apply(self_interaction, *fields)  # type: ignore[no-untyped-call]
    return products


def _check(fields: Sequence[Tensor]) -> None:
    if not fields:
        raise ShapeError("at least one input", "none", "dot_interaction", "pass the features to combine")
    require_floats("dot_interaction", fields, [f"input {place}" for place in range(len(fields))])
    shape = fields[0].shape
    for place, field in enumerate(fields):
        if field.dim() != 2 or field.shape != shape:
            expected = "(batch, dim)" if len(shape) != 2 else str(tuple(shape))
            raise ShapeError(
                f"shape {expected}",
                str(tuple(field.shape)),
                f"dot_interaction, input {place}",
                "pass equally long vectors",
            )


def _by_torch(self_interaction: bool, *fields: Tensor) -> Tensor:
    features, count = torch.stack(fields, dim=1), len(fields)
    products = features @ features.transpose(1, 2)
    row, column = torch.tril_indices(count, count, 0 if self_interaction else -1, device=products.device)
    return products[:, row, column]


class _DotInteraction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, self_interaction: bool, *fields: Tensor) -> Tensor:
        ctx.save_for_backward(*fields)
        ctx.self_interaction = self_interaction
        sizes = _sizes(self_interaction, fields)
        products = fields[0].new_empty(len(fields[0]), sizes[-1])
        call("dot_interaction", *sizes, *_strided(fields), products)
        return products

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        fields = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            function = partial(_by_torch, ctx.self_interaction)
            return None, *derive_by_torch(function, fields, grad, ctx.needs_input_grad[1:])
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        # Contiguous for each feature, so that autograd takes it as it is.
        gradients = grad.new_empty(len(fields), *fields[0].shape)
        sizes = _sizes(ctx.self_interaction, fields)
        call("dot_interaction_backward", *sizes, *_strided(fields), grad.stride(0), grad, gradients)
        return None, *gradients.unbind(0)


def _sizes(self_interaction: bool, fields: Sequence[Tensor]) -> tuple[int, ...]:
    """Return batch, features, dim, whether pairs of a feature with itself count, and the number of pairs."""
    count, (batch, dim) = len(fields), fields[0].shape
    return batch, count, dim, int(self_interaction), count * (count - 1) // 2 + self_interaction * count


def _strided(fields: Sequence[Tensor]) -> tuple["array[int]", list[Tensor]]:
    """Return how far the rows of each feature lie apart, and features whose rows are contiguous."""
    rows = [field if field.stride(1) == 1 else field.contiguous() for field in fields]
    return array("q", [field.stride(0) for field in rows]), rows
