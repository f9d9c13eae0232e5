"""Rows of tables in plain torch, with gradients that name only the rows that were read."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.schema import PADDING_ID

__all__ = ["Pooling", "coefficients", "gather", "pool", "row_gradient"]

Pooling = Literal["mean", "sum", "sqrtn"]
"""With weights w and vectors e: Σwe / Σw, Σwe, or Σwe / √Σw²."""


def gather(weight: Tensor, ids: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Read one row per id.

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


def pool(weight: Tensor, lists: Jagged, pooling: Pooling) -> Tensor:
    """Read the rows of each list of ids, and pool them.

    Args:
        weight: `(rows, dim)`.
        lists: lists of int64 ids in `[0, rows)`; padding takes no part.
        pooling: how.

    Returns:
        `(lists, dim)`, differentiable in `weight`, row-sparse, and in the weights of the lists.
    """
    factors = coefficients(lists, pooling, weight.dtype)
    inputs = (weight, lists.values, lists.offsets, lists.row_index(), factors)
    pooled: Tensor = _Pool.apply(*inputs)  # type: ignore[no-untyped-call]
    return pooled


def coefficients(lists: Jagged, pooling: Pooling, dtype: torch.dtype) -> Tensor:
    """Return the factor of each vector in the sum of its list.

    Args:
        lists: lists of ids, with weights or without.
        pooling: how they are pooled.
        dtype: of the vectors.

    Returns:
        `(total,)`: 0 for padding, and for a whole list whose denominator is 0.
    """
    weights = (lists.values != PADDING_ID).to(dtype)
    if lists.weights is not None:
        weights = weights * lists.weights.to(dtype)
    if pooling == "sum":
        return weights
    squared = pooling == "sqrtn"
    norm = torch.segment_reduce(weights.square() if squared else weights, "sum", offsets=lists.offsets, initial=0)
    norm = norm.sqrt() if squared else norm
    # Division by infinity gives the zero that is wanted, and a gradient without NaN.
    return weights / norm.masked_fill(norm == 0, torch.inf).index_select(0, lists.row_index())


def row_gradient(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Return the gradient of a table that names only the rows that were read.

    Args:
        ids: `(entries,)` int64; they may repeat.
        values: `(entries, dim)`.
        shape: of the table.

    Returns:
        Sparse COO of that shape.
    """
    return torch.sparse_coo_tensor(ids.unsqueeze(0), values, shape, check_invariants=False)


# Two functions of our own, since torch's `padding_idx` filters the sparse gradient by a boolean mask: on a GPU every
# backward pass would wait for the number of rows that are left. A zero in the padding row costs nothing.


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table_shape = weight.shape
        return F.embedding(ids, weight).to(dtype)

    @staticmethod
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
        if weight.shape[1] == 0:  # which torch does with one thread alone
            return weight.new_empty(len(offsets) - 1, 0)
        return F.embedding_bag(
            ids, weight, offsets, mode="sum", per_sample_weights=coefficients, include_last_offset=True
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, Tensor | None]:
        ids, rows, coefficients, weight = ctx.saved_tensors
        spread = grad.index_select(0, rows)
        grad_coefficients = (spread * gather(weight, ids)).sum(dim=1) if ctx.needs_input_grad[4] else None
        grad_weight = None
        if ctx.needs_input_grad[0]:
            factors = coefficients.unsqueeze(1)
            values = spread * factors if torch.is_grad_enabled() else spread.mul_(factors)
            grad_weight = row_gradient(ids, values, ctx.table_shape)
        return grad_weight, None, None, None, grad_coefficients
