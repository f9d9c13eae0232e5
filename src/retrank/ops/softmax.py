"""The softmax among all candidates without the matrix of scores, of which a few rows are there at a time."""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from retrank.core.native import call, is_native, tile_shape

__all__ = ["can_fuse", "fused_softmax_cross_entropy", "weighted"]

_KEPT_SCORES: Final = 2**23  # numbers that a thread may keep: the exponentials of a few queries with all candidates
_TILES: Final = range(4, 9)  # of queries: with fewer the gradients of the candidates are read and written too often


def can_fuse(queries: Tensor, candidates: Tensor) -> bool:
    """Say whether `fused_softmax_cross_entropy` takes these embeddings.

    Args:
        queries: any.
        candidates: any.

    Returns:
        Whether both are float32 matrices on the CPU, outside of autocast, and the kernels are there.
    """
    are_matrices = queries.dim() == candidates.dim() == 2 and len(queries) > 0 and candidates.numel() > 0
    return are_matrices and not torch.is_autocast_enabled("cpu") and is_native(queries, candidates)


def fused_softmax_cross_entropy(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """Return weight · -log softmax(queries · candidates + bias)[positive] of every query.

    Equal to the same in plain torch, but for rounding, at a small part of its time and memory: for batch queries and N
    candidates it keeps O((batch + N) · dim) numbers, not batch · N. Up to 100,000 candidates and more, the gradients
    for a sum or mean of the losses are made together with them.

    Args:
        queries: `(batch, dim)` float32; see `can_fuse`.
        candidates: `(num_candidates, dim)` likewise.
        positives: `(batch,)` int64 candidate rows.
        weight: `(batch,)` or None for 1; a query of weight 0 takes no part, even if its loss is infinite.
        bias: `(num_candidates,)` added to the scores of each candidate, without gradient; None for 0.
        ids: `(num_candidates,)` integers. A candidate with the id of a query's positive takes no part in its softmax,
            apart from the positive itself. None if all differ.

    Returns:
        `(batch,)` losses, differentiable once in queries and candidates.

    Source: blocks as in Dao et al., FlashAttention, 2022, for a loss instead of attention; with more candidates, scores
    are computed again for the gradient as they are there.
    """
    if weight is not None and weight.requires_grad:
        return weighted(fused_softmax_cross_entropy(queries, candidates, positives, bias=bias, ids=ids), weight)
    weight = torch.ones_like(queries[:, 0]) if weight is None else weight.to(queries.dtype).expand(len(queries))
    learns = torch.is_grad_enabled()
    inputs = (queries, candidates, positives, weight, bias, ids, learns)
    losses: Tensor = _FusedSoftmax.apply(*inputs)  # type: ignore[no-untyped-call]
    return losses


def weighted(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Multiply each row's loss by its weight.

    Args:
        losses: `(batch,)`.
        weight: `(batch,)`, or None for 1. A row of weight 0 takes no part: an infinite loss would make it NaN.

    Returns:
        `(batch,)`.
    """
    return losses if weight is None else torch.where(weight == 0, 0, losses * weight)


class _Columns:
    """What the kernels want to know of the candidates: panels, and an entry for every lane of every panel."""

    def __init__(self, candidates: Tensor, positives: Tensor, bias: Tensor | None, ids: Tensor | None) -> None:
        self.tile_rows, self.width, self.lanes = tile_shape()
        self.num_candidates, self.dim = candidates.shape
        self.num_panels = -(-self.num_candidates // self.width)
        self.stride = -(-self.dim // self.lanes) * self.lanes
        self.panels = torch.empty(self.num_panels, self.dim, self.width)
        call("pack_panels", candidates, None, self.num_candidates, self.dim, self.panels)
        self.bias = torch.full((self.num_panels * self.width,), -torch.inf)  # nobody behind the last candidate
        self.bias[: self.num_candidates] = 0 if bias is None else bias
        numbers = torch.arange(self.num_candidates) if ids is None else torch.unique(ids, return_inverse=True)[1]
        self.ids = torch.full((self.num_panels * self.width,), -2, dtype=torch.int32)
        self.ids[: self.num_candidates] = numbers
        self.positive_ids = numbers[positives].to(torch.int32)

    def rows(self, candidates: Tensor) -> Tensor:
        """Return the candidates row by row, filled up to whole panels and registers."""
        rows = candidates.new_zeros(self.num_panels * self.width, self.stride)
        rows[: self.num_candidates, : self.dim] = candidates
        return rows

    def tiles_at_once(self) -> int:
        """Return how many tiles of queries to take through the softmax and its gradient in one go; 0 for none."""
        tiles = min(_KEPT_SCORES // (self.tile_rows * self.num_panels * self.width), max(_TILES))
        return tiles if tiles in _TILES else 0


class _FusedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        candidates: Tensor,
        positives: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: Tensor | None,
        learns: bool,
    ) -> Tensor:
        queries, candidates, weight = queries.contiguous(), candidates.contiguous(), weight.contiguous()
        columns = _Columns(candidates, positives, bias, ids)
        own = (queries * candidates[positives]).sum(dim=1) + columns.bias[positives]
        reference, others = own.clone(), torch.empty_like(own)
        tiles, made = columns.tiles_at_once() if learns else 0, None
        sizes = (queries, *queries.shape, columns.panels, columns.num_panels)
        if tiles == 0:
            call("softmax_forward", *sizes, columns.bias, columns.ids, columns.positive_ids, reference, others)
        else:
            block = tiles * columns.tile_rows
            of_queries = queries.new_zeros(-(-len(queries) // block) * block, columns.stride)
            of_panels = queries.new_zeros(torch.get_num_threads(), *columns.panels.shape)
            sizes = (*sizes, columns.rows(candidates), columns.stride, columns.bias, columns.ids, columns.positive_ids)
            call("softmax_both", *sizes, own, weight, tiles, reference, others, of_queries, of_panels)
            made = (of_queries[: len(queries), : columns.dim], of_panels.sum(dim=0))
        total = others + torch.exp(own - reference)
        losses = torch.where(reference > own, reference - own + torch.log(total), torch.log1p(others))
        losses = losses.masked_fill(own == torch.inf, torch.nan)  # as infinity less infinity
        ctx.save_for_backward(queries, candidates, positives, weight, reference, others, total)
        ctx.columns, ctx.made = columns, made
        return torch.where(weight == 0, 0, losses * weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, candidates, positives, weight, reference, others, total = ctx.saved_tensors
        columns: _Columns = ctx.columns
        is_the_same_for_all = grad.stride(0) == 0 or bool((grad == grad[0]).all())
        factor = torch.where(weight == 0, 0, grad * weight)
        if ctx.made is not None and is_the_same_for_all:
            of_queries, of_panels = (gradient * grad[0] for gradient in ctx.made)
        else:
            of_queries, of_panels = _gradients(queries, candidates, columns, reference, factor / total)
        pull = torch.where(weight == 0, 0, -factor * others / total).unsqueeze(1)  # of the positive: p less one
        of_candidates = of_panels.transpose(1, 2).reshape(-1, columns.dim)[: columns.num_candidates]
        of_queries = of_queries.addcmul(pull, candidates[positives])
        return of_queries, of_candidates.index_add(0, positives, pull * queries), None, None, None, None, None


def _gradients(
    queries: Tensor, candidates: Tensor, columns: _Columns, reference: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the candidates that are no positives do to the queries, and the queries to the panels."""
    num_rows = -(-len(queries) // columns.tile_rows) * columns.tile_rows
    of_queries = queries.new_zeros(torch.get_num_threads(), num_rows, columns.stride)
    of_panels = torch.zeros_like(columns.panels)
    call(
        "softmax_backward",
        _filled_up(queries, num_rows),
        num_rows,
        columns.dim,
        columns.panels,
        columns.num_panels,
        columns.rows(candidates),
        columns.stride,
        columns.bias,
        columns.ids,
        _filled_up(columns.positive_ids, num_rows),
        _filled_up(reference, num_rows, fill=torch.inf),  # whose exponentials are 0
        _filled_up(factor, num_rows),
        of_queries,
        of_panels,
    )
    return of_queries.sum(dim=0)[: len(queries), : columns.dim], of_panels


def _filled_up(tensor: Tensor, num_rows: int, *, fill: float = 0) -> Tensor:
    filled = tensor.new_full((num_rows, *tensor.shape[1:]), fill)
    filled[: len(tensor)] = tensor
    return filled
