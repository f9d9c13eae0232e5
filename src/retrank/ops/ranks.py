"""How many candidates come before each query's positive, in the whole corpus and exactly."""

from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import call
from retrank.ops.prepared_candidates import PreparedCandidates, prepare_candidates
from retrank.ops.score_blocks import BlockCells, block_scores, query_chunks
from retrank.ops.score_checks import RowLists, as_float32, checked_lists

__all__ = ["count_better"]

_WHERE: Final = "full-corpus ranks"


def count_better(
    queries: Tensor, candidates: Tensor, order: Tensor, positives: Tensor, *, exclude: RowLists | None = None
) -> Tensor:
    """Count the candidates that come before each query's positive.

    The scores are never all in memory. The positive's score comes from the same arithmetic as its rivals'.

    Args:
        queries: `(batch, heads, dim)` float32, float16 or bfloat16, of which the best head counts.
        candidates: `(num_candidates, dim)` likewise, on the same device.
        order: `(num_candidates,)` int64, a permutation: the candidates in the order in which equal scores count.
        positives: `(batch,)` int64 candidate rows.
        exclude: one list per query of candidate rows that do not count. The positive always counts.

    Returns:
        `(batch,)` int64: candidates with a higher score, or with an equal one and an earlier place in the order. It
        means nothing where a score is not finite.

    Raises:
        ShapeError: tensors or lists that do not fit.
        DataError: a positive or an excluded row that is no candidate, or an order that is no permutation.
    """
    candidates = as_float32(candidates, "candidates")
    heads = _checked_heads(queries, candidates)
    prepared = prepare_candidates(candidates, order)  # a tie that comes before the positive now stands before it
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    _check_positives(positives, len(heads), len(candidates))
    positives = positives.to(candidates.device).contiguous()
    if exclude is not None:
        exclude = checked_lists(exclude, len(heads), len(candidates), candidates.device, "exclude")
    if len(heads) == 0:
        return torch.empty(0, dtype=torch.int64, device=candidates.device)
    if heads.shape[1] > 1 or not prepared.for_kernels:
        return _count_in_blocks(heads, prepared, place, positives, exclude)
    better = torch.empty(len(heads), dtype=torch.int64)
    lists = (None, None) if exclude is None else (exclude.values, exclude.offsets)
    sizes = (len(heads), prepared.dim, candidates.contiguous(), len(candidates), prepared.blocks)
    call("count_better", heads.contiguous(), *sizes, place, positives, *lists, better)
    return better


def _checked_heads(queries: Tensor, candidates: Tensor) -> Tensor:
    dim, device = candidates.shape[1], candidates.device
    if queries.dim() != 3 or queries.shape[1] == 0 or queries.shape[2] != dim or queries.device != device:
        raise ShapeError(
            f"queries of shape (batch, heads, {dim}) on {device}",
            f"{tuple(queries.shape)} on {queries.device}",
            "queries",
            "embed queries and candidates with the same dim on the same device",
        )
    return as_float32(queries.flatten(0, 1), "queries").view(queries.shape)


def _check_positives(positives: Tensor, num_queries: int, num_candidates: int) -> None:
    if positives.shape != (num_queries,) or positives.dtype != torch.int64:
        raise ShapeError(
            f"int64 positives of shape ({num_queries},)",
            f"{positives.dtype} of shape {tuple(positives.shape)}",
            _WHERE,
            "give one positive per query",
        )
    outside = (positives < 0) | (positives >= num_candidates)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"positives in [0, {num_candidates})", str(int(positives[row])), f"positives, row {row}", "name a candidate"
        )


def _count_in_blocks(
    heads: Tensor, prepared: PreparedCandidates, place: Tensor, positives: Tensor, exclude: Jagged | None
) -> Tensor:
    """Count in plain torch, block by block."""
    blocks = list(prepared.product_blocks())
    by_place = torch.argsort(place[positives])  # a chunk's positives then share few blocks, and only those come twice
    chunks = torch.stack([query_chunks(head) for head in heads[by_place].unbind(1)], dim=1)
    excluded = None
    if exclude is not None:
        taken = exclude.take(by_place)
        excluded = BlockCells(Jagged(place[taken.values], taken.offsets), prepared.num_candidates, blocks[0].shape[1])
    better = torch.empty_like(positives)
    better[by_place] = _better(blocks, prepared.num_candidates, chunks, place[positives][by_place], excluded)
    return better


def _better(
    blocks: list[Tensor], num_candidates: int, chunks: Tensor, places: Tensor, excluded: BlockCells | None
) -> Tensor:
    """Count the candidates before each positive: `(batch,)` int64, for ascending places of the positives."""
    num_chunks, _, chunk_rows, _ = chunks.shape
    width = blocks[0].shape[1]
    padded = places.new_full((num_chunks * chunk_rows, 1), num_candidates - 1)
    padded[: len(places), 0] = places
    padded = padded.view(num_chunks, chunk_rows, 1)
    columns = torch.arange(len(blocks) * width, device=places.device).view(-1, width)
    better = torch.zeros(num_chunks, chunk_rows, dtype=torch.int64, device=places.device)
    spans = (padded[:, [0, -1], 0] // width).tolist()
    for number, (chunk, place, (first, last)) in enumerate(zip(chunks, padded, spans, strict=True)):
        positive = chunk.new_zeros(chunk_rows, 1)
        for block in range(first, last + 1):
            scores = _best_head(chunk, blocks[block]).gather(1, (place - block * width).clamp(0, width - 1))
            positive = scores.where(place // width == block, positive)
        for block, candidates in enumerate(blocks):
            scores = _best_head(chunk, candidates)
            scores[:, num_candidates - block * width :] = -torch.inf
            if excluded is not None:
                scores[excluded.of(number, block)] = -torch.inf
            if block < first:
                before = scores >= positive
            elif block > last:
                before = scores > positive
            else:
                before = (scores > positive) | ((scores == positive) & (columns[block] < place))
            better[number] += before.sum(dim=1)
    return better.view(-1)[: len(places)]


def _best_head(chunk: Tensor, block: Tensor) -> Tensor:
    """Score one chunk `(heads, chunk_rows, dim)` of queries against one block of candidates."""
    scores = block_scores(chunk[0], block)
    for head in chunk[1:]:
        scores = torch.maximum(scores, block_scores(head, block))
    return scores
