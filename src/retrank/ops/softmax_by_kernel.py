"""The softmax among all candidates by kernels: no block of scores is ever in memory."""

from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.native import call, is_native, num_threads, tile_shape
from retrank.ops.derivation import derive_by_torch
from retrank.ops.softmax_by_torch import losses_by_torch, weighted

__all__ = ["can_fuse", "fused_losses"]

_KEPT_SCORES: Final = 2**23  # numbers that a thread may keep: the exponentials of a few queries with all candidates
_TILES: Final = range(4, 9)  # of queries: with fewer the gradients of the candidates are read and written too often


def can_fuse(queries: Tensor, candidates: Tensor, bias: Tensor | None) -> bool:
    """Say whether the kernels take these tensors.

    Args:
        queries: `(batch, dim)`.
        candidates: `(num_candidates, dim)`.
        bias: `(num_candidates,)` or None.

    Returns:
        Whether all are float32 on the CPU, outside of autocast, and the kernels are there.
    """
    if len(queries) == 0 or candidates.numel() == 0 or torch.is_autocast_enabled("cpu"):
        return False
    return (bias is None or not bias.requires_grad) and is_native(queries, candidates)


def fused_losses(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    ids: Tensor | None,
    first_shared: int,
) -> Tensor:
    """Return weight · -log softmax(queries · candidates + bias)[positive] of every query.

    Args:
        queries: `(batch, dim)`.
        candidates: `(num_candidates, dim)`.
        positives: `(batch,)`.
        weight: `(batch,)` or None.
        bias: `(num_candidates,)` or None.
        ids: `(num_candidates,)` or None.
        first_shared: of the candidates that all queries are compared with.

    Returns:
        `(batch,)` losses.
    """
    if weight is not None and weight.requires_grad:
        return weighted(fused_losses(queries, candidates, positives, None, bias, ids, first_shared), weight)
    weight = torch.ones_like(queries[:, 0]) if weight is None else weight.to(queries.dtype)
    inputs = (queries, candidates, positives, weight, bias, ids, first_shared, torch.is_grad_enabled())
    losses: Tensor = _FusedSoftmax.apply(*inputs)  # type: ignore[no-untyped-call]
    return losses


@final
class _Columns(NamedTuple):
    """What the kernels want to know of the shared candidates besides their numbers, for every lane of every panel."""

    bias: Tensor
    """`(panels, width)`, -inf where there is no candidate."""
    ids: Tensor
    """`(panels, width)` int32."""
    positive_ids: Tensor
    """`(batch,)` int32."""

    @classmethod
    def of(
        cls, num_candidates: int, positives: Tensor, bias: Tensor | None, ids: Tensor | None, first_shared: int
    ) -> "_Columns":
        _, width, _ = tile_shape()
        num_shared = num_candidates - first_shared
        num_panels = -(-num_shared // width)
        biases = torch.full((num_panels * width,), -torch.inf)
        biases[:num_shared] = 0 if bias is None else bias.detach()[first_shared:]
        numbers = torch.arange(num_candidates) if ids is None else torch.unique(ids, return_inverse=True)[1]
        filled = torch.full((num_panels * width,), -2, dtype=torch.int32)
        filled[:num_shared] = numbers[first_shared:]
        shape = (num_panels, width)
        return cls(biases.view(shape), filled.view(shape), numbers[positives].to(torch.int32))


def _panels(candidates: Tensor) -> Tensor:
    """Return the candidates as `(panels, dim, width)`."""
    (num_candidates, dim), (_, width, _) = candidates.shape, tile_shape()
    panels = torch.empty(-(-num_candidates // width), dim, width)
    call("pack_panels", candidates, None, num_candidates, dim, panels)
    return panels


def _filled_rows(candidates: Tensor) -> Tensor:
    """Return the candidates as `(panels, width, stride)`, filled up to whole panels and registers."""
    (num_candidates, dim), (_, width, lanes) = candidates.shape, tile_shape()
    rows = candidates.new_zeros(-(-num_candidates // width), width, -(-dim // lanes) * lanes)
    rows.view(-1, rows.shape[2])[:num_candidates, :dim] = candidates
    return rows


def _tiles_at_once(num_panels: int) -> int:
    """Return how many tiles of queries to take through the softmax and its gradient in one go; 0 for none."""
    rows, width, _ = tile_shape()
    tiles = min(_KEPT_SCORES // (rows * num_panels * width), max(_TILES))
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
        first_shared: int,
        learns: bool,
    ) -> Tensor:
        inputs = (queries, candidates, positives, weight, bias, ids)
        queries, candidates, weight = queries.contiguous(), candidates.contiguous(), weight.contiguous()
        columns, shared = _Columns.of(len(candidates), positives, bias, ids, first_shared), candidates[first_shared:]
        panels = _panels(shared)
        own = (queries * candidates[positives]).sum(dim=1)
        own = own if bias is None else own + bias.detach()[positives]
        reference, others = own.clone(), torch.empty_like(own)
        tiles = _tiles_at_once(len(panels)) if learns else 0
        of_queries = of_panels = None
        sizes = (*queries.shape, len(panels))
        if tiles == 0:
            call("softmax_forward", *sizes, queries, panels, *columns, reference, others)
        else:
            rows, block = _filled_rows(shared), tiles * tile_shape()[0]
            spare = queries.new_zeros(-(-len(queries) // block) * block, rows.shape[2])
            copies = queries.new_zeros(num_threads(), *panels.shape)
            sizes = (*sizes, rows.shape[2], tiles, len(spare))
            state = (own, weight, reference, others, spare, copies)
            call("softmax_both", *sizes, queries, panels, rows, *columns, *state)
            of_queries, of_panels = spare[: len(queries), : queries.shape[1]], copies.sum(dim=0)
        total = others + torch.exp(own - reference)
        losses = torch.where(reference > own, reference - own + torch.log(total), torch.log1p(others))
        losses = losses.masked_fill(own == torch.inf, torch.nan)  # as infinity less infinity
        ctx.first_shared = first_shared
        ctx.save_for_backward(*inputs, *columns, reference, others, total, of_queries, of_panels)
        return torch.where(weight == 0, 0, losses * weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, candidates, positives, weight, bias, ids, *made = ctx.saved_tensors
        first_shared = ctx.first_shared
        if torch.is_grad_enabled():  # the gradients will be derived in their turn

            def losses(queries: Tensor, candidates: Tensor) -> Tensor:
                return weighted(losses_by_torch(1.0, queries, candidates, positives, bias, ids, first_shared), weight)

            found = derive_by_torch(losses, (queries, candidates), grad, ctx.needs_input_grad[:2])
            return *found, None, None, None, None, None, None
        made = [None if tensor is None else tensor.contiguous() for tensor in made]
        columns, (reference, others, total, of_queries, of_panels) = _Columns(*made[:3]), made[3:]
        queries, candidates = queries.contiguous(), candidates.contiguous()
        shared = candidates[first_shared:]
        is_the_same_for_all = grad.stride(0) == 0 or bool((grad == grad[0]).all())
        factor = torch.where(weight == 0, 0, grad * weight)
        if of_queries is not None and is_the_same_for_all:
            of_queries, of_panels = of_queries * grad[0], of_panels * grad[0]
        else:
            of_queries, of_panels = _gradients(queries, shared, columns, reference, factor / total)
        pull = torch.where(weight == 0, 0, -factor * others / total).unsqueeze(1)  # of the positive: p less one
        of_candidates = of_panels.transpose(1, 2).reshape(-1, shared.shape[1])[: len(shared)]
        if first_shared:
            of_candidates = torch.cat([shared.new_zeros(first_shared, shared.shape[1]), of_candidates])
        of_queries = of_queries.addcmul(pull, candidates[positives])
        of_candidates = of_candidates.index_add(0, positives, pull * queries)
        return of_queries, of_candidates, None, None, None, None, None, None


def _gradients(
    queries: Tensor, candidates: Tensor, columns: _Columns, reference: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the candidates that are no positives do to the queries, and the queries to the panels."""
    tile_rows, _, _ = tile_shape()
    num_rows, (num_queries, dim) = -(-len(queries) // tile_rows) * tile_rows, queries.shape
    panels, rows = _panels(candidates), _filled_rows(candidates)
    of_queries = queries.new_zeros(num_threads(), num_rows, rows.shape[2])
    of_panels = torch.zeros_like(panels)
    call(
        "softmax_backward",
        num_rows,
        dim,
        len(panels),
        rows.shape[2],
        _filled_up(queries, num_rows),
        panels,
        rows,
        columns.bias,
        columns.ids,
        _filled_up(columns.positive_ids, num_rows),
        _filled_up(reference, num_rows, fill=torch.inf),  # whose exponentials are 0
        _filled_up(factor, num_rows),
        of_queries,
        of_panels,
    )
    return of_queries.sum(dim=0)[:num_queries, :dim], of_panels


def _filled_up(tensor: Tensor, num_rows: int, *, fill: float = 0) -> Tensor:
    filled = tensor.new_full((num_rows, *tensor.shape[1:]), fill)
    filled[: len(tensor)] = tensor
    return filled
