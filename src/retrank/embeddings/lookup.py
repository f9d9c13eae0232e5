"""Differentiable row lookups whose gradient names only the rows that were read."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from retrank.core.schema import PADDING_ID
from retrank.ops.concatenate_lookups import row_gradient

__all__ = ["gather", "pool"]


def gather(weight: Tensor, ids: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Read one row an id.

    Args:
        weight: `(rows, dim)`.
        ids: any shape, int64 in `[0, rows)`.
        dtype: of what is returned and of the gradient of `weight`; that of `weight` by default.

    Returns:
        `(*ids.shape, dim)`. The gradient of `weight` is row-sparse and zero for padding.
    """
    dtype = dtype or weight.dtype
    if weight.requires_grad and weight.is_leaf and dtype != weight.dtype and weight.grad_dtype != dtype:
        weight.grad_dtype = dtype  # or torch would round the gradient as the weights are rounded
    gathered: Tensor = _Gather.apply(weight, ids, dtype)  # type: ignore[no-untyped-call]
    return gathered


def pool(weight: Tensor, ids: Tensor, offsets: Tensor, rows: Tensor, coefficients: Tensor) -> Tensor:
    """Add up rows, each times a coefficient, within every list of ids.

    Args:
        weight: `(table rows, dim)`.
        ids: `(total,)` int64, the lists one after another.
        offsets: `(lists + 1,)` int64, where each list starts.
        rows: `(total,)` int64, the list of each id.
        coefficients: `(total,)` of the dtype of `weight`; must be 0 for padding. Differentiable.

    Returns:
        `(lists, dim)`. The gradient of `weight` is row-sparse.
    """
    pooled: Tensor = _Pool.apply(weight, ids, offsets, rows, coefficients)  # type: ignore[no-untyped-call]
    return pooled


# Two functions of our own, since torch's `padding_idx` filters the sparse gradient by a boolean mask: on a GPU every
# backward pass would wait for the number of rows that are left. A zero in the padding row costs nothing.


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table_shape = weight.shape
        return F.embedding(ids, weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        ids = ids.flatten()
        values = grad.reshape(len(ids), ctx.table_shape[1])
        learns = ids != PADDING_ID
        if ids.device.type != "cpu" or not bool(learns.all()):  # on the CPU looking is cheaper than a copy
            values = values * learns.unsqueeze(1)
        return row_gradient(ids, values, ctx.table_shape), None, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, offsets: Tensor, rows: Tensor, coefficients: Tensor) -> Tensor:
        ctx.save_for_backward(ids, rows, coefficients, weight if coefficients.requires_grad else None)
        ctx.table_shape = weight.shape
        return F.embedding_bag(
            ids, weight, offsets, mode="sum", per_sample_weights=coefficients, include_last_offset=True
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, Tensor | None]:
        ids, rows, coefficients, weight = ctx.saved_tensors
        spread = grad.index_select(0, rows)
        grad_coefficients = (spread * F.embedding(ids, weight)).sum(dim=1) if ctx.needs_input_grad[4] else None
        grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_weight = row_gradient(ids, spread.mul_(coefficients.unsqueeze(1)), ctx.table_shape)
        return grad_weight, None, None, None, grad_coefficients
