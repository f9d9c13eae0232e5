"""Candidates laid out once for all the queries that they are scored against."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.native import call, is_native, tile_shape
from retrank.ops.score_blocks import block_shape
from retrank.ops.score_checks import as_float32, check_permutation, largest_magnitude

__all__ = ["PreparedCandidates", "prepare_candidates"]


@final
@dataclass(frozen=True, eq=False, slots=True)
class PreparedCandidates:
    """Candidates in blocks, which hold each dimension of `width` neighbours side by side; see `prepare_candidates`.

    For the kernels a block is a panel as wide as a few registers, for plain torch it is as wide as a matrix product.
    The embeddings are held in this form alone. Nothing changes them: `with_added` and its like return others.

    Args:
        blocks: `(num_blocks, dim, width)` float32; the last is filled up with zeros.
        num_candidates: at least 1.
        for_kernels: whether the blocks are panels.
        largest: float64 scalar, the largest magnitude of a coordinate; NaN if any is NaN.
    """

    blocks: Tensor
    num_candidates: int
    for_kernels: bool
    largest: Tensor

    @property
    def dim(self) -> int:
        """The width of an embedding."""
        return self.blocks.shape[1]

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.blocks.device

    @property
    def candidates(self) -> Tensor:
        """`(num_candidates, dim)` float32, a copy."""
        if self.for_kernels:
            return self._unpacked(None, self.num_candidates)
        return self.blocks.transpose(1, 2).reshape(-1, self.dim)[: self.num_candidates]

    def take(self, rows: Tensor) -> Tensor:
        """Return some candidates: `(n, dim)` float32, a copy.

        Args:
            rows: `(n,)` int64 in `[0, num_candidates)`.
        """
        if self.for_kernels:
            return self._unpacked(rows.contiguous(), len(rows))
        width = self.blocks.shape[2]
        return self.blocks[rows // width, :, rows % width]

    def product_blocks(self) -> Iterator[Tensor]:
        """Yield the candidates as `(dim, width)` blocks for `block_scores`, filled up with zeros."""
        if not self.for_kernels:
            yield from self.blocks
            return
        width, panel_width = block_shape(self.device)[1], self.blocks.shape[2]
        in_one = width // panel_width
        for first in range(0, len(self.blocks), in_one):
            panels = self.blocks[first : first + in_one]
            block = panels.new_zeros(self.dim, width)
            block[:, : len(panels) * panel_width] = panels.permute(1, 0, 2).reshape(self.dim, -1)
            yield block

    def with_added(self, embeddings: Tensor) -> "PreparedCandidates":
        """Return these candidates and others after the last; all are copied once.

        Args:
            embeddings: `(num_added, dim)` float32 on the same device.
        """
        width = self.blocks.shape[2]
        full = self.num_candidates // width
        rest = torch.arange(full * width, self.num_candidates, device=self.device)
        added = _packed(torch.cat([self.take(rest), embeddings]), None, width, self.for_kernels)
        return self._with_blocks(torch.cat([self.blocks[:full], added]), self.num_candidates + len(embeddings))

    def with_updated(self, rows: Tensor, embeddings: Tensor) -> "PreparedCandidates":
        """Return the same candidates with other embeddings for some; all are copied once.

        Args:
            rows: `(n,)` int64, distinct.
            embeddings: `(n, dim)` float32, theirs.
        """
        blocks, width = self.blocks.clone(), self.blocks.shape[2]
        blocks[rows // width, :, rows % width] = embeddings
        return self._with_blocks(blocks, self.num_candidates)

    def only(self, rows: Tensor) -> "PreparedCandidates":
        """Return some of the candidates; they are copied.

        Args:
            rows: `(n,)` int64, at least one.
        """
        return self._with_blocks(_packed(self.take(rows), None, self.blocks.shape[2], self.for_kernels), len(rows))

    def _with_blocks(self, blocks: Tensor, num_candidates: int) -> "PreparedCandidates":
        return PreparedCandidates(blocks, num_candidates, self.for_kernels, largest_magnitude(blocks))

    def _unpacked(self, rows: Tensor | None, count: int) -> Tensor:
        candidates = self.blocks.new_empty(count, self.dim)
        call("unpack_panels", self.blocks, rows, count, self.dim, candidates)
        return candidates


def prepare_candidates(candidates: Tensor, order: Tensor | None = None) -> PreparedCandidates:
    """Lay candidates out for the implementation that is there.

    Args:
        candidates: `(num_candidates, dim)` float32, float16 or bfloat16; copied in float32, without gradient. They
            need not be finite: see `largest`.
        order: `(num_candidates,)` int64, a permutation: which candidate stands at each place; as they come by default.

    Returns:
        All of them, on the same device.

    Raises:
        ShapeError: another shape or dtype, or no candidates.
        DataError: the order is no permutation.
    """
    candidates = as_float32(candidates, "candidates")
    if len(candidates) == 0:
        raise ShapeError("at least one candidate", "none", "candidates", "give the embeddings of the catalogue")
    if order is not None:
        check_permutation(order, candidates)
    for_kernels = is_native(candidates)
    width = tile_shape()[1] if for_kernels else block_shape(candidates.device)[1]
    blocks = _packed(candidates, order, width, for_kernels)
    return PreparedCandidates(blocks, len(candidates), for_kernels, largest_magnitude(candidates))


def _packed(candidates: Tensor, order: Tensor | None, width: int, for_kernels: bool) -> Tensor:
    count, dim = candidates.shape
    num_blocks, full = -(-count // width), count // width
    if for_kernels:
        blocks = candidates.new_empty(num_blocks, dim, width)
        call("pack_panels", candidates.contiguous(), order, count, dim, blocks)
        return blocks
    candidates = candidates if order is None else candidates[order]
    blocks = candidates.new_zeros(num_blocks, dim, width)
    blocks[:full] = candidates[: full * width].reshape(full, width, dim).transpose(1, 2)
    blocks[full:, :, : count - full * width] = candidates[full * width :].T
    return blocks
