"""Dot products in blocks of one shape, so that a score depends on its query and its candidate alone.

A matrix product of one query uses another kernel, and rounds differently, than one of a thousand. Here every product
has the same shape, queries and candidates are padded with zeros, and the place of a row in it does not matter: equal
vectors have equal scores, wherever they stand and whatever else is asked for at the same time.
"""

from functools import cached_property
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.ops.panels import Panels

__all__ = [
    "BlockCells",
    "BlockGrid",
    "CPU_SHAPE",
    "GPU_SHAPE",
    "ScoreBlocks",
    "as_float32",
    "check_finite",
    "check_pairs",
]

_ALIGNMENT: Final = 64

CPU_SHAPE: Final = (32, 8192)  # 1 MiB of scores: they stay in the cache between product and comparison
"""Queries in a chunk and the most candidates in a block, on the CPU."""
GPU_SHAPE: Final = (256, 32_768)
"""The same on any other device, which wants more work at a time."""


@final
class BlockGrid:
    """How candidates are cut into blocks of equal width and queries into chunks, and the product of the two.

    Args:
        num_candidates: at least 1.
        dim: of the embeddings.
        device: where scores are computed.
    """

    def __init__(self, num_candidates: int, dim: int, device: torch.device) -> None:
        self.num_candidates, self.dim, self.device = num_candidates, dim, device
        self.chunk_rows, limit = CPU_SHAPE if device.type == "cpu" else GPU_SHAPE
        width = -(-num_candidates // -(-num_candidates // limit))
        self.width = -(-width // _ALIGNMENT) * _ALIGNMENT
        self.num_blocks = -(-num_candidates // self.width)

    def checked(self, queries: Tensor) -> Tensor:
        """Return queries as float32; see `ScoreBlocks.chunks` for what is refused."""
        queries = as_float32(queries, "queries")
        if queries.shape[1] != self.dim or queries.device != self.device:
            raise ShapeError(
                f"queries of shape (batch, {self.dim}) on {self.device}",
                f"{tuple(queries.shape)} on {queries.device}",
                "queries",
                "embed queries and candidates with the same dim on the same device",
            )
        return queries

    def chunks(self, queries: Tensor) -> Tensor:
        """Cut queries into chunks of equal size; see `ScoreBlocks.chunks`."""
        queries = self.checked(queries)
        num_chunks = -(-len(queries) // self.chunk_rows)
        padded = queries.new_zeros(num_chunks * self.chunk_rows, self.dim)
        padded[: len(queries)] = queries
        return padded.view(num_chunks, self.chunk_rows, self.dim)

    def scores(self, chunk: Tensor, candidates: Tensor, block: int) -> Tensor:
        """Score one chunk of queries against one block of candidates.

        Args:
            chunk: `(chunk_rows, dim)`, one of `chunks`.
            candidates: `(width, dim)`, rows behind the last candidate are zeros.
            block: its number.

        Returns:
            `(chunk_rows, width)` float32; columns behind the last candidate hold -inf.
        """
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            scores = torch.mm(chunk, candidates.T)
        scores[:, max(self.num_candidates - block * self.width, 0) :] = -torch.inf
        return scores

    def unsafe(self, queries: Tensor, largest: Tensor) -> Tensor:
        """Say which queries may have scores that are not finite, without waiting for the device.

        Args:
            queries: `(batch, dim)`.
            largest: float64 scalar, the largest magnitude of a candidate's coordinate.

        Returns:
            `(batch,)` bool: a number is NaN or infinite, or a product can overflow float32.
        """
        bound = queries.abs().amax(dim=1).double() * largest * self.dim
        return ~(bound < torch.finfo(torch.float32).max)


@final
class ScoreBlocks:
    """Candidates cut into blocks of equal width, and the scores of chunks of queries against them.

    Args:
        candidates: `(num_candidates, dim)` float32, float16 or bfloat16; computed with in float32, without gradient.

    Raises:
        ShapeError: another shape or dtype, or no candidates.

    Example:
        >>> import torch, retrank as rr
        >>> blocks = rr.index.ScoreBlocks(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> chunks = blocks.chunks(torch.tensor([[2.0, 3.0]]))
        >>> blocks.scores(chunks[0], block=0)[0, :3]
        tensor([2., 3., -inf])
    """

    def __init__(self, candidates: Tensor) -> None:
        candidates = as_float32(candidates, "candidates")
        if len(candidates) == 0:
            raise ShapeError("at least one candidate", "none", "candidates", "give the embeddings of the catalogue")
        self.num_candidates, self.dim = candidates.shape
        self.grid = BlockGrid(self.num_candidates, self.dim, candidates.device)
        self.chunk_rows, self.width, self.num_blocks = self.grid.chunk_rows, self.grid.width, self.grid.num_blocks
        padded = candidates.new_zeros(self.num_blocks * self.width, self.dim)
        padded[: self.num_candidates] = candidates
        self.blocks = padded.view(self.num_blocks, self.width, self.dim)
        self.largest = candidates.abs().amax().double()

    @cached_property
    def panels(self) -> Panels:
        """The candidates once more, as the kernels want them."""
        return Panels(self.candidates)

    @property
    def device(self) -> torch.device:
        """The device of the candidates."""
        return self.blocks.device

    @property
    def candidates(self) -> Tensor:
        """`(num_candidates, dim)` float32, a view."""
        return self.blocks.view(-1, self.dim)[: self.num_candidates]

    def chunks(self, queries: Tensor) -> Tensor:
        """Cut queries into chunks of equal size.

        Args:
            queries: `(batch, dim)` float32, float16 or bfloat16 on the candidates' device.

        Returns:
            `(num_chunks, chunk_rows, dim)` float32; the last chunk is filled up with zeros.

        Raises:
            ShapeError: another shape, dtype or device.
        """
        return self.grid.chunks(queries)

    def scores(self, chunk: Tensor, block: int) -> Tensor:
        """Score one chunk of queries against one block of candidates.

        Args:
            chunk: `(chunk_rows, dim)`, one of `chunks`.
            block: `[0, num_blocks)`; its first candidate is row `block * width`.

        Returns:
            `(chunk_rows, width)` float32, the caller's to change; columns behind the last candidate hold -inf.
        """
        return self.grid.scores(chunk, self.blocks[block], block)

    def unsafe(self, queries: Tensor) -> Tensor:
        """Say which queries may have scores that are not finite, without waiting for the device.

        Args:
            queries: `(batch, dim)`.

        Returns:
            `(batch,)` bool: the query or any candidate holds NaN or infinity, or a product can overflow float32.
        """
        return self.grid.unsafe(queries, self.largest)


@final
class BlockCells:
    """Pairs of a query and a candidate, sorted by the chunk and block in which their score is found.

    Args:
        pairs: one row a query, of candidate rows; repeats are harmless.
        grid: of the scores that they point into.
        num_queries: queries that are scored.
        where: what the pairs are, for messages.

    Raises:
        ShapeError: not one row a query, or not int64.
        DataError: a row that is no candidate.
    """

    def __init__(self, pairs: Jagged, grid: BlockGrid, num_queries: int, where: str) -> None:
        check_pairs(pairs, num_queries, grid.num_candidates, where)
        pairs = pairs.to(grid.device)
        rows, values = pairs.row_index(), pairs.values
        num_chunks = -(-num_queries // grid.chunk_rows)
        cell = rows // grid.chunk_rows * grid.num_blocks + values // grid.width
        order = torch.argsort(cell)
        self._rows, self._columns = rows[order] % grid.chunk_rows, values[order] % grid.width
        counts = torch.bincount(cell, minlength=num_chunks * grid.num_blocks)
        self._bounds = np.concatenate([[0], counts.cumsum(0).cpu().numpy()])
        self._num_blocks = grid.num_blocks

    def of(self, chunk: int, block: int) -> tuple[Tensor, Tensor]:
        """Return the pairs of one block of scores.

        Args:
            chunk: number of the chunk of queries.
            block: number of the block of candidates.

        Returns:
            Rows and columns in the `(chunk_rows, width)` scores, two int64 tensors of one length.
        """
        first, last = self._bounds[chunk * self._num_blocks + block :][:2]
        return self._rows[first:last], self._columns[first:last]


def check_pairs(pairs: Jagged, num_queries: int, num_candidates: int, where: str) -> None:
    """Check that a `Jagged` names candidates for queries.

    Args:
        pairs: one row a query, of candidate rows.
        num_queries: how many rows there must be.
        num_candidates: all values must lie below.
        where: what the pairs are, for messages.

    Raises:
        ShapeError: not one row a query, or not int64.
        DataError: a row that is no candidate.
    """
    if len(pairs) != num_queries or pairs.values.dtype != torch.int64 or pairs.values.dim() != 1:
        raise ShapeError(
            f"int64 candidate rows for {num_queries} queries",
            f"{pairs.values.dtype} for {len(pairs)}",
            where,
            "give one row a query, an empty one where there is nothing to say",
        )
    outside = (pairs.values < 0) | (pairs.values >= num_candidates)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        raise DataError(
            f"candidate rows in [0, {num_candidates})",
            str(int(pairs.values[first])),
            f"{where}, row {int(pairs.row_index()[first])}",
            "leave unknown candidates out",
        )


def as_float32(embeddings: Tensor, where: str) -> Tensor:
    """Widen embeddings to float32.

    Args:
        embeddings: `(rows, dim)` float32, float16 or bfloat16.
        where: what they are, for messages.

    Returns:
        `(rows, dim)` float32, detached.

    Raises:
        ShapeError: another shape or dtype. Float64 is not narrowed in silence.
    """
    if embeddings.dim() != 2 or embeddings.shape[1] == 0:
        raise ShapeError("shape (rows, dim)", str(tuple(embeddings.shape)), where, "give one embedding a row")
    if embeddings.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ShapeError("float32, float16 or bfloat16", str(embeddings.dtype), where, "convert with .float()")
    return embeddings.detach().float()


def check_finite(embeddings: Tensor, where: str, *, first_row: int = 0) -> None:
    """Check that embeddings hold numbers.

    Args:
        embeddings: `(rows, dim)`.
        where: what they are, for messages.
        first_row: what the first row is called in messages.

    Raises:
        DataError: NaN or infinity.
    """
    broken = ~embeddings.isfinite().all(dim=1)
    if bool(broken.any()):
        row = first_row + int(broken.nonzero()[0])
        raise DataError("finite embeddings", "NaN or infinity", f"{where}, row {row}", "check the model")
