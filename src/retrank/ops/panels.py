"""Candidates laid out for the kernels, which score, compare and forget: no block of scores is ever in memory.

A score depends on its query and candidate alone, to the bit, as in `blocks`, though it is rounded otherwise than there.
"""

from typing import Final, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.native import call, tile_shape
from retrank.ops.top_k import nothing

__all__ = ["BestCandidates", "Panels", "count_better"]

_SPARE: Final = 64  # places beyond k, so that the worst are thrown out rarely


@final
class Panels:
    """Candidates in panels of a few registers' width.

    Args:
        candidates: `(num_candidates, dim)` float32 on the CPU, all finite.
        order: `(num_candidates,)` int64, the candidate at each place; as they come by default.
    """

    def __init__(self, candidates: Tensor, order: Tensor | None = None) -> None:
        self.num_candidates, self.dim = candidates.shape
        _, width, _ = tile_shape()
        self.panels = torch.empty(-(-self.num_candidates // width), self.dim, width)
        call("pack_panels", candidates.contiguous(), order, self.num_candidates, self.dim, self.panels)


def count_better(
    queries: Tensor, candidates: Tensor, order: Tensor, place: Tensor, positives: Tensor, exclude: Jagged | None
) -> Tensor:
    """Count the candidates that come before each query's positive.

    Args:
        queries: `(batch, dim)` float32 on the CPU, all finite.
        candidates: `(num_candidates, dim)` likewise.
        order: `(num_candidates,)` int64, the candidate at each place among equal scores.
        place: `(num_candidates,)` int64, the place of each candidate.
        positives: `(batch,)` int64 candidate rows.
        exclude: one row a query of candidate rows that do not count, or None.

    Returns:
        `(batch,)` int64: candidates with a higher score, or with an equal one and an earlier place.
    """
    candidates, panels = candidates.contiguous(), Panels(candidates, order)
    better = torch.empty(len(queries), dtype=torch.int64)
    excluded = (None, None) if exclude is None else (exclude.values.contiguous(), exclude.offsets.contiguous())
    sizes = (len(queries), panels.dim, candidates, panels.num_candidates, panels.panels)
    call("count_better", queries.contiguous(), *sizes, place, positives.contiguous(), *excluded, better)
    return better


@final
class BestCandidates:
    """The best candidates of some queries among all that were added so far.

    Args:
        queries: `(batch, dim)` float32 on the CPU, all finite.
        k: how many.
        exclude: one row a query of candidate rows that are passed over, or None.
    """

    def __init__(self, queries: Tensor, k: int, exclude: Jagged | None) -> None:
        self._queries, self._k, self._capacity = queries.contiguous(), k, max(2 * k, k + _SPARE)
        self._excluded: tuple[Tensor | None, Tensor | None] = (None, None)
        if exclude is not None:
            self._excluded = (exclude.values.contiguous(), exclude.offsets.contiguous())
        segments = torch.zeros(1, dtype=torch.int64)
        call("num_segments", max(len(queries), 1), segments)
        self._segments = int(segments)
        shape = (self._segments, len(queries))
        self._keys = torch.empty(*shape, self._capacity, dtype=torch.int64)
        self._sizes = torch.zeros(shape, dtype=torch.int64)
        self._bounds = torch.full(shape, -torch.inf)

    def add(self, panels: Panels, first_row: int) -> None:
        """Look at more candidates.

        Args:
            panels: the candidates; their order is that of their rows.
            first_row: candidate row of the first; beyond those of earlier calls.
        """
        sizes = (len(self._queries), panels.dim, panels.panels, panels.num_candidates, first_row, self._k)
        state = (self._keys, self._sizes, self._bounds)
        call("best_candidates", self._queries, *sizes, self._capacity, self._segments, *self._excluded, *state)

    def packed(self) -> Tensor:
        """Return what was found.

        Returns:
            `(batch, k)` int64 as in `top_k`, best first, with missing places at the end.
        """
        best = torch.empty(len(self._queries), self._k, dtype=torch.int64)
        missing = int(nothing(1, 1, best.device))
        counts = (len(self._queries), self._capacity, self._segments, self._k, missing)
        call("take_best", self._keys, self._sizes, *counts, best)
        return best
