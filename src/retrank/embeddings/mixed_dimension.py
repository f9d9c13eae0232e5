"""`MixedDimensionTable`: long vectors for frequent ids, short ones for rare ids."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.schema import NUM_SPECIAL_IDS, PADDING_ID, ColumnSchema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.pooling import Combiner
from retrank.embeddings.table import Table

__all__ = ["MixedDimensionTable"]


@final
class MixedDimensionTable(Table):
    """Blocks of ids, each with rows of its own length, which a matrix for each block maps to the common length.

    Vocabularies number their keys by frequency, so the first block holds the most frequent ids; ids added by `grow`
    belong to the last block. Padding is zeros; unknown belongs to the first block and starts at zero. The gradients of
    the tables are row-sparse.

    Args:
        rows: the schema of an id column, or the number of ids with padding and unknown counted.
        dim: length of a vector.
        boundaries: the first id of every block but the first, ascending.
        dims: length of the rows of each block, one more than boundaries; a block of length `dim` has no matrix.
        combiner: how lists are pooled, see `EmbeddingTable`.
        scale: the vectors start with the variance of those of an `EmbeddingTable` of this scale.
        l2: factor of `penalty`, whose vectors are those of ids, not the rows they are made of.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.embeddings.MixedDimensionTable(1_000_000, 64, boundaries=[1_000, 30_000], dims=[64, 16, 4])
        >>> table(torch.tensor([7, 5_000, 123_456])).shape
        torch.Size([3, 64])

    Source: Ginart et al., Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems, ISIT
    2021; they choose dims as dim times a power (about 0.3) of each block's frequency relative to the first.
    """

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        boundaries: Sequence[int],
        dims: Sequence[int],
        combiner: Combiner = "mean",
        scale: float = 0.05,
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, l2=l2, name=name)
        self._edges = [NUM_SPECIAL_IDS, *boundaries, self.num_ids]
        if any(first >= last for first, last in pairwise(self._edges)):
            raise self._config_error(
                f"ascending boundaries between {NUM_SPECIAL_IDS} and {self.num_ids}", str(list(boundaries))
            )
        if len(dims) != len(boundaries) + 1 or min(dims) < 1:
            raise self._config_error(f"{len(boundaries) + 1} positive dims, one per block", str(list(dims)))
        self.blocks, self.projections = nn.ModuleList(), nn.ModuleList()
        for (first, last), width in zip(pairwise(self._edges), dims, strict=True):
            # Glorot's variance is 2 / (width + dim), and a vector adds up `width` products.
            factor = 1.0 if width == dim else ((width + dim) / (2 * width)) ** 0.5
            size = last - first + NUM_SPECIAL_IDS
            self.blocks.append(EmbeddingTable(size, width, scale=scale * factor, name=self.name))
            self.projections.append(nn.Identity() if width == dim else _glorot(width, dim))

    def _grow(self, num_ids: int) -> None:
        last = self.blocks[-1]
        assert isinstance(last, EmbeddingTable)
        last.grow(last.num_ids + num_ids - self.num_ids)
        self._edges[-1] = num_ids

    def _look_up(self, ids: Tensor) -> Tensor:
        # Every block reads all ids, those of others as padding: choosing by a mask would make a GPU wait.
        vectors = []
        for block, projection, (first, last) in zip(self.blocks, self.projections, pairwise(self._edges), strict=True):
            own = (ids >= first) & (ids < last)
            if first == NUM_SPECIAL_IDS:
                own |= ids < first
            rows = torch.where(own, ids - first + NUM_SPECIAL_IDS, PADDING_ID)
            vectors.append(projection(block(self._in_range(ids, rows))))
        return torch.stack(vectors).sum(dim=0)


def _glorot(in_features: int, out_features: int) -> nn.Linear:
    projection = nn.Linear(in_features, out_features, bias=False)
    nn.init.xavier_uniform_(projection.weight)
    return projection
