"""The one search that scores every candidate, over blocks from memory or from a stream."""

from collections.abc import Iterable

from torch import Tensor

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.index.blocks import BlockGrid
from retrank.index.filters import BlockFilter
from retrank.index.top_k import best_of_block, merge, nothing, unpack

__all__ = ["search_blocks"]


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
    unsafe = grid.unsafe(queries, largest)
    if bool(unsafe.any()):
        raise DataError(
            "finite scores",
            "a query that is not finite, or so large that its scores overflow",
            f"queries, row {int(unsafe.nonzero()[0])}",
            "check the model's output",
        )
    candidate_filter = BlockFilter(grid, len(queries), exclude, allow)
    found = nothing(len(queries), k, grid.device)
    for block, candidates in enumerate(blocks if len(queries) else ()):
        for number, chunk in enumerate(chunks):
            best = found[number * grid.chunk_rows :][: grid.chunk_rows]
            scores = grid.scores(chunk, candidates, block)
            candidate_filter.apply(scores, number, block)
            best[:] = merge(best, best_of_block(scores[: len(best)], block * grid.width, k))
    return unpack(found)
