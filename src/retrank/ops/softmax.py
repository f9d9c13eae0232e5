"""The softmax among all candidates without the matrix of scores, of which a few rows are there at a time."""

from functools import partial
from typing import Any, Final, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from retrank.core.errors import DataError, ShapeError
from retrank.core.native import call, is_native, num_threads, tile_shape
from retrank.core.tensors import can_look
from retrank.ops.checks import described, require_floats, require_integers
from retrank.ops.derivation import derive_by_torch

__all__ = ["dot_product_cross_entropy", "rows_at_once", "weighted"]

_KEPT_SCORES: Final = 2**23  # numbers that a thread may keep: the exponentials of a few queries with all candidates
_TILES: Final = range(4, 9)  # of queries: with fewer the gradients of the candidates are read and written too often
_SCORES_AT_ONCE_CPU: Final = 2**21  # 8 MiB
_SCORES_AT_ONCE_GPU: Final = 2**27
_IGNORE_NOTHING: Final = torch.iinfo(torch.int64).min  # torch's default skips rows whose positive is -100


def dot_product_cross_entropy(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    *,
    temperature: float = 1.0,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """Return weight · -log softmax(queries · candidates / temperature + bias)[positive] of every query.

    The scores are never all in memory: a kernel keeps O((batch + N) · dim) numbers for batch queries and N candidates,
    and plain torch a block of rows at a time, which it computes again for the gradient. With up to 100,000 candidates
    and more, the kernel makes the gradients for a sum or mean of the losses together with them.

    Args:
        queries: `(batch, dim)` floats.
        candidates: `(num_candidates, dim)` of the same dtype.
        positives: `(batch,)` int64 candidate rows.
        temperature: divides the dot products.
        weight: `(batch,)` or None for 1; a query of weight 0 takes no part, even if its loss is infinite.
        bias: `(num_candidates,)` added to the scores of each candidate; None for 0.
        ids: `(num_candidates,)` integers. A candidate with the id of a query's positive takes no part in its softmax,
            apart from the positive itself. None if all differ.

    Returns:
        `(batch,)` losses in at least float32, differentiable as often as you like.

    Raises:
        ShapeError: tensors that do not fit each other.
        DataError: a positive outside of the candidates; on a GPU, torch's device-side assertion stops the program.

    Example:
        >>> import torch
        >>> from retrank.ops.softmax import dot_product_cross_entropy
        >>> dot_product_cross_entropy(torch.eye(2), torch.eye(2), torch.tensor([0, 1])).exp()  # 1 + 1 / e
        tensor([1.3679, 1.3679])

    Source: blocks as in Dao et al., FlashAttention, 2022, for a loss instead of attention; with more candidates, scores
    are computed again for the gradient as they are there.
    """
    _check(queries, candidates, positives, weight, bias, ids)
    if _can_fuse(queries, candidates, bias):
        return _fused(queries / temperature, candidates, positives, weight, bias, ids)
    size = rows_at_once(len(candidates), candidates.device)
    if len(queries) <= size:
        losses = _by_torch(temperature, queries, candidates, positives, bias, ids)
    else:
        again = partial(checkpoint, _by_torch, use_reentrant=False, preserve_rng_state=False)
        pairs = zip(torch.split(queries, size), torch.split(positives, size), strict=True)
        losses = torch.cat([again(temperature, some, candidates, own, bias, ids) for some, own in pairs])
    return weighted(losses, weight)


def rows_at_once(num_candidates: int, device: torch.device) -> int:
    """Say of how many queries all scores may be in memory.

    Args:
        num_candidates: scores per query.
        device: where they would be.

    Returns:
        At least 1.
    """
    limit = _SCORES_AT_ONCE_CPU if device.type == "cpu" else _SCORES_AT_ONCE_GPU
    return max(limit // max(num_candidates, 1), 1)


def weighted(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Multiply each row's loss by its weight.

    Args:
        losses: `(batch,)`.
        weight: `(batch,)`, or None for 1. A row of weight 0 takes no part: an infinite loss would make it NaN.

    Returns:
        `(batch,)`.
    """
    return losses if weight is None else torch.where(weight == 0, 0, losses * weight)


def _check(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    ids: Tensor | None,
) -> None:
    if not queries.dim() == candidates.dim() == 2 or queries.shape[1] != candidates.shape[1]:
        raise _shape_error(
            "queries (batch, dim) and candidates (num_candidates, dim)",
            f"{tuple(queries.shape)} and {tuple(candidates.shape)}",
            "queries",
        )
    floats = {"queries": queries, "candidates": candidates}
    require_floats("dot_product_cross_entropy", list(floats.values()), list(floats))
    require_integers("dot_product_cross_entropy", positives, "positives", queries.shape[:1], queries.device)
    for tensor, name, of in ((weight, "weight", queries), (bias, "bias", candidates), (ids, "ids", candidates)):
        if tensor is not None and (tensor.shape != of.shape[:1] or tensor.device != of.device):
            raise _shape_error(f"shape ({len(of)},) on {of.device}", described(tensor), name)
    if ids is not None and (ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool):
        raise _shape_error("integers", described(ids), "ids")
    if any(tensor is not None and tensor.is_complex() for tensor in (weight, bias)):
        raise _shape_error("real numbers", "complex ones", "weight and bias")
    if can_look(positives):
        outside = (positives < 0) | (positives >= len(candidates))
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            got = str(int(positives[row]))
            raise DataError(f"a column in [0, {len(candidates)})", got, f"positives, row {row}", "check the ids")


def _shape_error(expected: str, got: str, name: str) -> ShapeError:
    return ShapeError(expected, got, f"dot_product_cross_entropy, {name}", "one row per query, one per candidate")


def _can_fuse(queries: Tensor, candidates: Tensor, bias: Tensor | None) -> bool:
    if len(queries) == 0 or candidates.numel() == 0 or torch.is_autocast_enabled("cpu"):
        return False
    return (bias is None or not bias.requires_grad) and is_native(queries, candidates)


def _by_torch(
    temperature: float,
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
) -> Tensor:
    scores = queries @ candidates.T
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores if temperature == 1 else scores / temperature
    if bias is not None:
        scores = scores + bias
    if ids is not None:
        own = positives.unsqueeze(1)
        hits = (ids == ids[positives].unsqueeze(1)).scatter(1, own, False)
        scores = scores.masked_fill(hits, -torch.inf)
    return F.cross_entropy(scores, positives, reduction="none", ignore_index=_IGNORE_NOTHING)


def _fused(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    ids: Tensor | None,
) -> Tensor:
    if weight is not None and weight.requires_grad:
        return weighted(_fused(queries, candidates, positives, None, bias, ids), weight)
    weight = torch.ones_like(queries[:, 0]) if weight is None else weight.to(queries.dtype)
    inputs = (queries, candidates, positives, weight, bias, ids, torch.is_grad_enabled())
    losses: Tensor = _FusedSoftmax.apply(*inputs)  # type: ignore[no-untyped-call]
    return losses


@final
class _Columns(NamedTuple):
    """What the kernels want to know of the candidates besides their numbers, for every lane of every panel."""

    bias: Tensor
    """`(panels, width)`, -inf where there is no candidate."""
    ids: Tensor
    """`(panels, width)` int32."""
    positive_ids: Tensor
    """`(batch,)` int32."""

    @classmethod
    def of(cls, num_candidates: int, positives: Tensor, bias: Tensor | None, ids: Tensor | None) -> "_Columns":
        _, width, _ = tile_shape()
        num_panels = -(-num_candidates // width)
        biases = torch.full((num_panels * width,), -torch.inf)
        biases[:num_candidates] = 0 if bias is None else bias.detach()
        numbers = torch.arange(num_candidates) if ids is None else torch.unique(ids, return_inverse=True)[1]
        filled = torch.full((num_panels * width,), -2, dtype=torch.int32)
        filled[:num_candidates] = numbers
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
        learns: bool,
    ) -> Tensor:
        inputs = (queries, candidates, positives, weight, bias, ids)
        queries, candidates, weight = queries.contiguous(), candidates.contiguous(), weight.contiguous()
        columns, panels = _Columns.of(len(candidates), positives, bias, ids), _panels(candidates)
        own = (queries * candidates[positives]).sum(dim=1) + columns.bias.view(-1)[positives]
        reference, others = own.clone(), torch.empty_like(own)
        tiles = _tiles_at_once(len(panels)) if learns else 0
        of_queries = of_panels = None
        sizes = (*queries.shape, len(panels))
        if tiles == 0:
            call("softmax_forward", *sizes, queries, panels, *columns, reference, others)
        else:
            rows, block = _filled_rows(candidates), tiles * tile_shape()[0]
            spare = queries.new_zeros(-(-len(queries) // block) * block, rows.shape[2])
            copies = queries.new_zeros(num_threads(), *panels.shape)
            sizes = (*sizes, rows.shape[2], tiles, len(spare))
            state = (own, weight, reference, others, spare, copies)
            call("softmax_both", *sizes, queries, panels, rows, *columns, *state)
            of_queries, of_panels = spare[: len(queries), : queries.shape[1]], copies.sum(dim=0)
        total = others + torch.exp(own - reference)
        losses = torch.where(reference > own, reference - own + torch.log(total), torch.log1p(others))
        losses = losses.masked_fill(own == torch.inf, torch.nan)  # as infinity less infinity
        ctx.save_for_backward(*inputs, *columns, reference, others, total, of_queries, of_panels)
        return torch.where(weight == 0, 0, losses * weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, candidates, positives, weight, bias, ids, *made = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be derived in their turn

            def losses(queries: Tensor, candidates: Tensor) -> Tensor:
                return weighted(_by_torch(1.0, queries, candidates, positives, bias, ids), weight)

            found = derive_by_torch(losses, (queries, candidates), grad, ctx.needs_input_grad[:2])
            return *found, None, None, None, None, None
        columns, (reference, others, total, of_queries, of_panels) = _Columns(*made[:3]), made[3:]
        queries, candidates = queries.contiguous(), candidates.contiguous()
        is_the_same_for_all = grad.stride(0) == 0 or bool((grad == grad[0]).all())
        factor = torch.where(weight == 0, 0, grad * weight)
        if of_queries is not None and is_the_same_for_all:
            of_queries, of_panels = of_queries * grad[0], of_panels * grad[0]
        else:
            of_queries, of_panels = _gradients(queries, candidates, columns, reference, factor / total)
        pull = torch.where(weight == 0, 0, -factor * others / total).unsqueeze(1)  # of the positive: p less one
        of_candidates = of_panels.transpose(1, 2).reshape(-1, candidates.shape[1])[: len(candidates)]
        of_queries = of_queries.addcmul(pull, candidates[positives])
        return of_queries, of_candidates.index_add(0, positives, pull * queries), None, None, None, None, None


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
