"""Scores of single pairs of a query and a candidate, the same to the bit as `best_candidates` gives them."""

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.native import call, is_native
from retrank.ops.score_blocks import block_scores, block_shape, query_chunks
from retrank.ops.score_checks import as_float32

__all__ = ["pair_scores"]


def pair_scores(queries: Tensor, candidates: Tensor, rows: Tensor) -> Tensor:
    """Score each query against a few candidates of its own.

    Args:
        queries: `(batch, dim)` float32, float16 or bfloat16.
        candidates: `(num_candidates, dim)` likewise, on the same device.
        rows: `(batch, places)` int64 candidate rows, -1 for an empty place.

    Returns:
        `(batch, places)` float32, -inf at empty places.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a row that is no candidate.
    """
    queries, candidates = as_float32(queries, "queries"), as_float32(candidates, "candidates")
    if queries.shape[1] != candidates.shape[1] or not queries.device == candidates.device == rows.device:
        raise ShapeError(
            f"queries of shape (batch, {candidates.shape[1]}) on {candidates.device}",
            f"{tuple(queries.shape)} on {queries.device}, rows on {rows.device}",
            "queries",
            "embed queries and candidates with the same dim on the same device",
        )
    if rows.dim() != 2 or len(rows) != len(queries) or rows.dtype != torch.int64:
        raise ShapeError(
            f"int64 rows of shape ({len(queries)}, places)",
            f"{rows.dtype} of shape {tuple(rows.shape)}",
            "rows",
            "give the candidate rows of each query",
        )
    if rows.numel() == 0:
        return queries.new_empty(rows.shape)
    low, high = map(int, rows.aminmax())
    if low < -1 or high >= len(candidates):
        raise DataError(
            f"candidate rows in [0, {len(candidates)}), or -1", str(low if low < -1 else high), "rows", "check them"
        )
    if high < 0:
        return queries.new_full(rows.shape, -torch.inf)
    if not is_native(queries, candidates):
        return _scores_in_blocks(queries, candidates, rows)
    scores = torch.empty(rows.shape)
    sizes = (len(queries), queries.shape[1])
    call("pair_scores", queries.contiguous(), *sizes, candidates.contiguous(), rows.contiguous(), rows.shape[1], scores)
    return scores


def _scores_in_blocks(queries: Tensor, candidates: Tensor, rows: Tensor) -> Tensor:
    """Score in plain torch: all queries of a chunk against all their candidates, in products of the one shape."""
    chunk_rows, width = block_shape(queries.device)
    scores = queries.new_full(rows.shape, -torch.inf)
    for number, chunk in enumerate(query_chunks(queries)):
        mine, to = rows[number * chunk_rows :][:chunk_rows], scores[number * chunk_rows :][:chunk_rows]
        wanted, places = torch.unique(mine.clamp(min=0), return_inverse=True)
        for first in range(0, len(wanted), width):
            some = wanted[first : first + width]
            block = candidates.new_zeros(candidates.shape[1], width)
            block[:, : len(some)] = candidates[some].T
            column = places - first
            found = block_scores(chunk, block)[: len(mine)].gather(1, column.clamp(0, width - 1))
            to.copy_(found.where((column >= 0) & (column < width) & (mine >= 0), to))
    return scores
