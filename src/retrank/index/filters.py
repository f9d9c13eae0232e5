"""Which candidates a query may have: exclusions and allow-lists, applied to blocks of scores."""

from typing import final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.index.blocks import BlockCells, BlockGrid, check_pairs

__all__ = ["BlockFilter"]


@final
class BlockFilter:
    """The exclusions and allow-lists of one search, without a mask of all queries by all candidates.

    Args:
        grid: of the scores that are filtered.
        num_queries: queries that are scored.
        exclude: one row a query of candidate rows that are removed, or None.
        allow: one row a query, or one row for all queries, of the only candidate rows that stay, or None.

    Raises:
        ShapeError: a number of rows or a dtype that does not fit.
        DataError: a row that is no candidate.
    """

    def __init__(self, grid: BlockGrid, num_queries: int, exclude: Jagged | None, allow: Jagged | None) -> None:
        self._excluded = None if exclude is None else BlockCells(exclude, grid, num_queries, "exclude")
        self._allowed: BlockCells | None = None
        self._forbidden: Tensor | None = None
        if allow is not None and len(allow) == 1:
            check_pairs(allow, 1, grid.num_candidates, "allow")
            forbidden = torch.ones(grid.num_blocks * grid.width, dtype=torch.bool, device=grid.device)
            forbidden[allow.values.to(grid.device)] = False
            self._forbidden = forbidden.view(grid.num_blocks, grid.width)
        elif allow is not None:
            self._allowed = BlockCells(allow, grid, num_queries, "allow")

    def apply(self, scores: Tensor, chunk: int, block: int) -> None:
        """Set the scores of candidates that may not be returned to -inf, in place.

        Args:
            scores: `(chunk_rows, width)` of that chunk and block.
            chunk: number of the chunk of queries.
            block: number of the block of candidates.
        """
        if self._forbidden is not None:
            scores.masked_fill_(self._forbidden[block], -torch.inf)
        if self._allowed is not None:
            forbidden = torch.ones_like(scores, dtype=torch.bool)
            forbidden[self._allowed.of(chunk, block)] = False
            scores.masked_fill_(forbidden, -torch.inf)
        if self._excluded is not None:
            scores[self._excluded.of(chunk, block)] = -torch.inf
