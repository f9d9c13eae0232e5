"""The one search that scores every candidate, over blocks from memory or from a stream."""

from collections.abc import Iterable

import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.core.native import is_native
from retrank.index.blocks import BlockGrid, check_pairs
from retrank.index.filters import BlockFilter
from retrank.ops.panels import BestCandidates, Panels
from retrank.ops.top_k import best_of_block, merge, nothing, unpack

__all__ = ["search_blocks", "search_panels", "takes_panels"]


def takes_panels(grid: BlockGrid, allow: Jagged | None) -> bool:
    """Say whether `search_panels` can do what is asked.

    Args:
        grid: of the candidates.
        allow: the allow-lists, or None.

    Returns:
        Whether the kernels are there, the candidates on the CPU, and all of them allowed.
    """
    return allow is None and is_native(torch.empty(0, device=grid.device))


def search_panels(
    grid: BlockGrid, panels: Iterable[Panels], largest: Tensor, queries: Tensor, k: int, *, exclude: Jagged | None
) -> tuple[Tensor, Tensor]:
    """Find the best candidates in one pass of the kernels; see `search_blocks`.

    Args:
        grid: of the candidates.
        panels: all candidates, in order.
        largest: float64 scalar, the largest magnitude of a candidate's coordinate.
        queries: `(batch, dim)` on the grid's device.
        k: how many.
        exclude: candidate rows that must not be returned.

    Returns:
        Scores and rows, `(batch, k)` each, best first, ties in row order.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a query whose scores are not finite, or a row that is no candidate.
    """
    queries = grid.checked(queries)
    _check_scores(grid, queries, largest)
    if exclude is not None:
        check_pairs(exclude, len(queries), grid.num_candidates, "exclude")
        exclude = exclude.to("cpu")
    best, first_row = BestCandidates(queries, k, exclude), 0
    for some in panels if len(queries) else ():
        best.add(some, first_row)
        first_row += some.num_candidates
    return unpack(best.packed())


def search_blocks(
    grid: BlockGrid,
    blocks: Iterable[Tensor],
    largest: Tensor,
    queries: Tensor,
    k: int,
    *,
    exclude: Jagged | None,
    allow: Jagged | None,
) -> tuple[Tensor, Tensor]:
    """Find the best candidates in one pass over the blocks.

    Args:
        grid: how the candidates are cut.
        blocks: every `(width, dim)` block, in order.
        largest: float64 scalar, the largest magnitude of a candidate's coordinate.
        queries: `(batch, dim)` on the grid's device.
        k: how many.
        exclude: candidate rows that must not be returned.
        allow: the only candidate rows that may be returned.

    Returns:
        Scores and rows, `(batch, k)` each, best first, ties in row order.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a query whose scores are not finite, or a row that is no candidate.
    """
    chunks = grid.chunks(queries)
    _check_scores(grid, queries, largest)
    candidate_filter = BlockFilter(grid, len(queries), exclude, allow)
    found = nothing(len(queries), k, grid.device)
    for block, candidates in enumerate(blocks if len(queries) else ()):
        for number, chunk in enumerate(chunks):
            best = found[number * grid.chunk_rows :][: grid.chunk_rows]
            scores = grid.scores(chunk, candidates, block)
            candidate_filter.apply(scores, number, block)
            best[:] = merge(best, best_of_block(scores[: len(best)], block * grid.width, k))
    return unpack(found)


def _check_scores(grid: BlockGrid, queries: Tensor, largest: Tensor) -> None:
    unsafe = grid.unsafe(queries, largest)
    if bool(unsafe.any()):
        raise DataError(
            "finite scores",
            "a query that is not finite, or so large that its scores overflow",
            f"queries, row {int(unsafe.nonzero()[0])}",
            "check the model's output",
        )
