"""The softmax among all candidates in plain torch, with the scores of some queries at a time in memory."""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from retrank.core.tensors import is_traced
from retrank.ops.derivation import derive_by_torch

__all__ = ["losses_by_torch", "losses_in_blocks", "rows_at_once", "weighted"]

_SCORES_AT_ONCE_CPU: Final = 2**21  # 8 MiB
_SCORES_AT_ONCE_GPU: Final = 2**27
_IGNORE_NOTHING: Final = torch.iinfo(torch.int64).min  # torch's default skips rows whose positive is -100


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


def losses_in_blocks(
    temperature: float,
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    first_shared: int,
) -> Tensor:
    """Return -log softmax(queries · candidates / temperature + bias)[positive], block by block if there are many.

    Args:
        temperature: divides the dot products.
        queries: `(batch, dim)`.
        candidates: `(num_candidates, dim)`.
        positives: `(batch,)` int64 candidate rows.
        bias: `(num_candidates,)` or None.
        ids: `(num_candidates,)` or None, see `dot_product_cross_entropy`.
        first_shared: see there.

    Returns:
        `(batch,)` losses.
    """
    size = rows_at_once(len(candidates) - first_shared, candidates.device)
    inputs = (queries, candidates, positives, bias, ids, first_shared)
    if len(queries) <= size or is_traced() or forward_ad._current_level >= 0:
        return losses_by_torch(temperature, *inputs)
    losses: Tensor = _SoftmaxInBlocks.apply(temperature, size, *inputs)  # type: ignore[no-untyped-call]
    return losses


def losses_by_torch(
    temperature: float,
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    first_shared: int,
) -> Tensor:
    """Return what `losses_in_blocks` returns, with all scores in memory.

    Args:
        temperature: divides the dot products.
        queries: `(batch, dim)`.
        candidates: `(num_candidates, dim)`.
        positives: `(batch,)`.
        bias: `(num_candidates,)` or None.
        ids: `(num_candidates,)` or None.
        first_shared: of the candidates that all queries are compared with.

    Returns:
        `(batch,)` losses in at least float32.
    """
    scores = queries @ candidates[first_shared:].T
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores if temperature == 1 else scores / temperature
    if bias is not None:
        scores = scores + bias[first_shared:]
    if ids is not None:
        hits = ids[first_shared:] == ids[positives].unsqueeze(1)
        hits = hits if first_shared else hits.scatter(1, positives.unsqueeze(1), False)
        scores = scores.masked_fill(hits, -torch.inf)
    if first_shared:
        own = (queries * candidates[positives]).sum(dim=1).to(scores.dtype) / temperature
        own = own if bias is None else own + bias[positives]
        scores, positives = torch.cat([own.unsqueeze(1), scores], dim=1), torch.zeros_like(positives)
    return F.cross_entropy(scores, positives, reduction="none", ignore_index=_IGNORE_NOTHING)


class _SoftmaxInBlocks(torch.autograd.Function):
    """Plain torch, some rows at a time, whose scores are computed again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        temperature: float,
        size: int,
        queries: Tensor,
        candidates: Tensor,
        positives: Tensor,
        bias: Tensor | None,
        ids: Tensor | None,
        first_shared: int,
    ) -> Tensor:
        ctx.save_for_backward(queries, candidates, positives, bias, ids)
        kind = queries.device.type
        ctx.temperature, ctx.size, ctx.first_shared = temperature, size, first_shared
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        blocks = zip(torch.split(queries, size), torch.split(positives, size), strict=True)
        shared = (bias, ids, first_shared)
        return torch.cat([losses_by_torch(temperature, some, candidates, own, *shared) for some, own in blocks])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, candidates, positives, bias, ids = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:6]

        def losses(queries: Tensor, candidates: Tensor, positives: Tensor, bias: Tensor | None) -> Tensor:
            with torch.autocast(*ctx.autocast):
                return losses_by_torch(ctx.temperature, queries, candidates, positives, bias, ids, ctx.first_shared)

        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            found = derive_by_torch(losses, (queries, candidates, positives, bias), grad, wanted)
            return None, None, *found, None, None
        of_queries: list[Tensor | None] = []
        shared: list[Tensor | None] = [None, None]  # of the candidates and their bias
        for part in range(0, len(queries), ctx.size):
            rows = slice(part, part + ctx.size)
            inputs = [
                None if tensor is None else tensor.detach().requires_grad_(is_wanted)
                for tensor, is_wanted in zip((queries[rows], candidates, positives[rows], bias), wanted, strict=True)
            ]
            with torch.enable_grad():
                found = derive_by_torch(losses, inputs, grad[rows], wanted, again=False)
            of_queries.append(found[0])
            shared = [
                own if total is None or own is None else total.add_(own)
                for total, own in zip(shared, found[1::2], strict=True)
            ]
        first = torch.cat([own for own in of_queries if own is not None]) if wanted[0] else None
        return None, None, first, shared[0], None, shared[1], None, None
