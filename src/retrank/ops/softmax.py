"""The softmax among all candidates without the matrix of scores, of which a few rows are there at a time."""

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.tensors import can_look
from retrank.ops.checks import described, has_plain_layout, require_floats, require_integers
from retrank.ops.softmax_by_kernel import can_fuse, fused_losses
from retrank.ops.softmax_by_torch import losses_in_blocks, weighted

__all__ = ["dot_product_cross_entropy"]


def dot_product_cross_entropy(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    *,
    temperature: float = 1.0,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
    first_shared: int = 0,
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
        first_shared: candidates from this one on are compared with all queries, those before it with the queries whose
            positives they are. Above 0 all positives lie before it.

    Returns:
        `(batch,)` losses in at least float32, differentiable as often as you like.

    Raises:
        ShapeError: tensors that do not fit each other.
        DataError: a positive outside of the candidates, or not before `first_shared`; on a GPU, torch's device-side
            assertion stops the program.

    Example:
        >>> import torch
        >>> from retrank.ops.softmax import dot_product_cross_entropy
        >>> dot_product_cross_entropy(torch.eye(2), torch.eye(2), torch.tensor([0, 1])).exp()  # 1 + 1 / e
        tensor([1.3679, 1.3679])

    Source: blocks as in Dao et al., FlashAttention, 2022, for a loss instead of attention; with more candidates, scores
    are computed again for the gradient as they are there.
    """
    _check(queries, candidates, positives, weight, bias, ids, first_shared)
    if can_fuse(queries, candidates[first_shared:], bias):
        return fused_losses(queries / temperature, candidates, positives, weight, bias, ids, first_shared)
    return weighted(losses_in_blocks(temperature, queries, candidates, positives, bias, ids, first_shared), weight)


def _check(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    ids: Tensor | None,
    first_shared: int,
) -> None:
    require_floats("dot_product_cross_entropy", (queries, candidates), ("queries", "candidates"))
    if not queries.dim() == candidates.dim() == 2 or queries.shape[1] != candidates.shape[1]:
        raise _shape_error(
            "queries (batch, dim) and candidates (num_candidates, dim)",
            f"{tuple(queries.shape)} and {tuple(candidates.shape)}",
            "queries",
        )
    require_integers("dot_product_cross_entropy", positives, "positives", queries.shape[:1], queries.device)
    for tensor, name, of in ((weight, "weight", queries), (bias, "bias", candidates), (ids, "ids", candidates)):
        if tensor is None:
            continue
        if not has_plain_layout(tensor) or tensor.shape != of.shape[:1] or tensor.device != of.device:
            raise _shape_error(f"shape ({len(of)},) on {of.device}", described(tensor), name)
    if ids is not None and (ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool):
        raise _shape_error("integers", described(ids), "ids")
    if any(tensor is not None and tensor.is_complex() for tensor in (weight, bias)):
        raise _shape_error("real numbers", "complex ones", "weight and bias")
    if not 0 <= first_shared <= len(candidates):
        got = str(first_shared)
        raise _shape_error(f"a candidate, from 0 to {len(candidates)}", got, "first_shared")
    if can_look(positives):
        end = first_shared or len(candidates)
        outside = (positives < 0) | (positives >= end)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            got = str(int(positives[row]))
            raise DataError(f"a column in [0, {end})", got, f"positives, row {row}", "check the ids")


def _shape_error(expected: str, got: str, name: str) -> ShapeError:
    return ShapeError(expected, got, f"dot_product_cross_entropy, {name}", "one row per query, one per candidate")
