"""Scores in plain torch: matrix products of one shape, so that a score depends on its query and candidate alone.

A product of one query uses another kernel of the library below, and rounds differently, than one of a thousand. Here
every product has the same shape, whatever the number of queries and candidates; both are filled up with zeros, and the
place of a row or column in it does not matter.
"""

from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from retrank.core.jagged import Jagged

__all__ = ["BlockCells", "BlockFilter", "block_scores", "block_shape", "group_width", "query_chunks"]

CPU_SHAPE: Final = (32, 2048)  # 256 KiB of scores: they stay in the cache between product and comparison
"""Queries in a chunk and candidates in a block, on the CPU."""
GPU_SHAPE: Final = (256, 32_768)
"""The same on any other device, which wants more work at a time."""


def block_shape(device: torch.device) -> tuple[int, int]:
    """Return the queries in a chunk and the candidates in a block.

    Args:
        device: where scores are computed.
    """
    return CPU_SHAPE if device.type == "cpu" else GPU_SHAPE


def group_width(device: torch.device) -> int:
    """Return how many candidates are scored, in a few products, before the best of them are selected.

    Args:
        device: where scores are computed.
    """
    return block_shape(device)[1] * (4 if device.type == "cpu" else 1)


def query_chunks(queries: Tensor) -> Tensor:
    """Cut queries into chunks of equal size.

    Args:
        queries: `(batch, dim)`.

    Returns:
        `(num_chunks, chunk_rows, dim)`; the last chunk is filled up with zeros.
    """
    chunk_rows, _ = block_shape(queries.device)
    num_chunks = -(-len(queries) // chunk_rows)
    padded = queries.new_zeros(num_chunks * chunk_rows, queries.shape[1])
    padded[: len(queries)] = queries
    return padded.view(num_chunks, chunk_rows, -1)


def block_scores(chunk: Tensor, block: Tensor) -> Tensor:
    """Score a chunk of queries against a block of candidates.

    Args:
        chunk: `(chunk_rows, dim)`, one of `query_chunks`.
        block: `(dim, width)`, contiguous.

    Returns:
        `(chunk_rows, width)` float32.
    """
    with torch.no_grad(), torch.autocast(chunk.device.type, enabled=False):
        return torch.mm(chunk, block)


@final
class BlockCells:
    """Pairs of a query and a candidate, sorted by the chunk and block in which their score is found.

    Args:
        pairs: one list per query of candidate rows, checked; repeats are harmless.
        num_candidates: that are scored.
        width: of a block.
    """

    def __init__(self, pairs: Jagged, num_candidates: int, width: int) -> None:
        chunk_rows, _ = block_shape(pairs.device)
        rows, values = pairs.row_index(), pairs.values
        num_chunks, self._num_blocks = -(-len(pairs) // chunk_rows), -(-num_candidates // width)
        cell = rows // chunk_rows * self._num_blocks + values // width
        order = torch.argsort(cell)
        self._rows, self._columns = rows[order] % chunk_rows, values[order] % width
        counts = torch.bincount(cell, minlength=num_chunks * self._num_blocks)
        self._bounds = np.concatenate([[0], counts.cumsum(0).cpu().numpy()])

    def of(self, chunk: int, block: int) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of the pairs in one block of scores, two int64 tensors.

        Args:
            chunk: number of the chunk of queries.
            block: number of the block of candidates.
        """
        first, last = self._bounds[chunk * self._num_blocks + block :][:2]
        return self._rows[first:last], self._columns[first:last]


@final
class BlockFilter:
    """The exclusions and allow-lists of one search, without a mask of all queries by all candidates.

    Args:
        num_candidates: that are scored.
        width: of a block.
        exclude: one list per query of rows that are removed, checked, or None.
        allowed: `(num_candidates,)` bool, the candidates that stay for any query, or None.
        own: one list per query of the only rows that stay for it, checked, or None.
    """

    def __init__(
        self, num_candidates: int, width: int, exclude: Jagged | None, allowed: Tensor | None, own: Jagged | None
    ) -> None:
        self._num_candidates, self._width, self._allowed = num_candidates, width, allowed
        self._excluded = None if exclude is None else BlockCells(exclude, num_candidates, width)
        self._own = None if own is None else BlockCells(own, num_candidates, width)

    def apply(self, scores: Tensor, chunk: int, block: int) -> None:
        """Set the scores of what may not be returned, and of what fills up the last block, to -inf, in place.

        Args:
            scores: `(chunk_rows, width)` of that chunk and block.
            chunk: number of the chunk of queries.
            block: number of the block of candidates.
        """
        first = block * self._width
        scores[:, max(self._num_candidates - first, 0) :] = -torch.inf
        if self._allowed is not None:
            allowed = self._allowed[first : first + self._width]
            scores[:, : len(allowed)].masked_fill_(~allowed, -torch.inf)
        if self._own is not None:
            forbidden = torch.ones_like(scores, dtype=torch.bool)
            forbidden[self._own.of(chunk, block)] = False
            scores.masked_fill_(forbidden, -torch.inf)
        if self._excluded is not None:
            scores[self._excluded.of(chunk, block)] = -torch.inf
