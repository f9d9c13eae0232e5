"""The softmax among all candidates without the matrix of scores: computed in registers, and again for the gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from retrank.core.native import call, is_native, tile_shape

__all__ = ["can_fuse", "fused_softmax_cross_entropy"]


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
    queries: Tensor, candidates: Tensor, positives: Tensor, *, bias: Tensor | None = None, ids: Tensor | None = None
) -> Tensor:
    """Return -log softmax(queries · candidates + bias)[positive] of every query.

    Equal to the same in plain torch, but for rounding, at a small part of its time and memory: for batch queries and N
    candidates it keeps O((batch + N) · dim) numbers, not batch · N.

    Args:
        queries: `(batch, dim)` float32; see `can_fuse`.
        candidates: `(num_candidates, dim)` likewise.
        positives: `(batch,)` int64 candidate rows.
        bias: `(num_candidates,)` added to the scores of each candidate, without gradient; None for 0.
        ids: `(num_candidates,)` integers. A candidate with the id of a query's positive takes no part in its softmax,
            apart from the positive itself. None if all differ.

    Returns:
        `(batch,)` losses, differentiable once in queries and candidates.

    Source: recomputation in blocks as in Dao et al., FlashAttention, 2022, for a loss instead of attention.
    """
    losses: Tensor = _FusedSoftmax.apply(queries, candidates, positives, bias, ids)  # type: ignore[no-untyped-call]
    return losses


class _Columns:
    """What the kernels want to know of the candidates: panels, and an entry for every lane of every panel."""

    def __init__(self, candidates: Tensor, positives: Tensor, bias: Tensor | None, ids: Tensor | None) -> None:
        self.tile_rows, self.width, self.lanes = tile_shape()
        self.num_candidates, self.dim = candidates.shape
        self.num_panels = -(-self.num_candidates // self.width)
        self.panels = torch.empty(self.num_panels, self.dim, self.width)
        call("pack_panels", candidates, None, self.num_candidates, self.dim, self.panels)
        self.bias = torch.full((self.num_panels * self.width,), -torch.inf)  # nobody behind the last candidate
        self.bias[: self.num_candidates] = 0 if bias is None else bias
        numbers = torch.arange(self.num_candidates) if ids is None else torch.unique(ids, return_inverse=True)[1]
        self.ids = torch.full((self.num_panels * self.width,), -2, dtype=torch.int32)
        self.ids[: self.num_candidates] = numbers
        self.positive_ids = numbers[positives].to(torch.int32)


class _FusedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, candidates: Tensor, positives: Tensor, bias: Tensor | None, ids: Tensor | None
    ) -> Tensor:
        queries, candidates = queries.contiguous(), candidates.contiguous()
        columns = _Columns(candidates, positives, bias, ids)
        own = (queries * candidates[positives]).sum(dim=1) + columns.bias[positives]
        reference, others = own.clone(), torch.empty_like(own)
        sizes = (*queries.shape, columns.panels, columns.num_panels, columns.bias, columns.ids)
        call("softmax_forward", queries, *sizes, columns.positive_ids, reference, others)
        total = others + torch.exp(own - reference)
        losses = torch.where(reference > own, reference - own + torch.log(total), torch.log1p(others))
        losses = losses.masked_fill(own == torch.inf, torch.nan)  # as infinity less infinity
        ctx.save_for_backward(queries, candidates, positives, reference, others, total)
        ctx.columns = columns
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        queries, candidates, positives, reference, others, total = ctx.saved_tensors
        columns: _Columns = ctx.columns
        batch, dim = queries.shape
        num_rows = -(-batch // columns.tile_rows) * columns.tile_rows
        stride = -(-dim // columns.lanes) * columns.lanes
        copies = torch.get_num_threads()
        rows = queries.new_zeros(columns.num_panels * columns.width, stride)
        rows[: columns.num_candidates, :dim] = candidates
        query_gradients = queries.new_zeros(copies, num_rows, stride)
        panel_gradients = torch.zeros_like(columns.panels)
        call(
            "softmax_backward",
            _filled_up(queries, num_rows),
            num_rows,
            dim,
            columns.panels,
            columns.num_panels,
            rows,
            stride,
            columns.bias,
            columns.ids,
            _filled_up(columns.positive_ids, num_rows),
            _filled_up(reference, num_rows, fill=torch.inf),  # whose exponentials are 0
            _filled_up(grad / total, num_rows),
            query_gradients,
            panel_gradients,
        )
        pull = (-grad * others / total).unsqueeze(1)  # of the positive: its probability less one
        query_gradient = query_gradients.sum(dim=0)[:batch, :dim].addcmul(pull, candidates[positives])
        candidate_gradient = panel_gradients.transpose(1, 2).reshape(-1, dim)[: columns.num_candidates]
        return query_gradient, candidate_gradient.index_add(0, positives, pull * queries), None, None, None


def _filled_up(tensor: Tensor, num_rows: int, *, fill: float = 0) -> Tensor:
    filled = tensor.new_full((num_rows, *tensor.shape[1:]), fill)
    filled[: len(tensor)] = tensor
    return filled
