"""`HashedTable`: many ids in few rows."""

from typing import final

import torch
from torch import Tensor

from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.hashing import bucket_ids
from retrank.embeddings.pooling import Combiner
from retrank.embeddings.table import Table

__all__ = ["HashedTable"]


@final
class HashedTable(Table):
    """A table of fixed size for any number of ids: a vector is the sum of a few rows, chosen by hashes of the id.

    With one hash, ids that meet in a row get the same vector; with two or more that hardly happens. Padding is zeros;
    unknown has a row of its own, which starts at zero. The gradient is row-sparse.

    Args:
        rows: the schema of an id column, or the number of ids with padding and unknown counted.
        dim: length of a vector.
        num_buckets: rows that the ids share.
        num_hashes: rows that make a vector.
        combiner: how lists are pooled, see `EmbeddingTable`.
        scale: the vectors start with the variance of those of an `EmbeddingTable` of this scale.
        l2: factor of `penalty`, whose vectors are those of ids, not the rows they are made of.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.embeddings.HashedTable(10**9, dim=4, num_buckets=1_000)
        >>> table(torch.tensor([7, 123_456_789])).shape, sum(weight.numel() for weight in table.parameters())
        (torch.Size([2, 4]), 4008)

    Source: Weinberger et al., Feature Hashing, ICML 2009; several hashes as in Serrà and Karatzoglou, Bloom embeddings,
    RecSys 2017.
    """

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        num_buckets: int,
        num_hashes: int = 2,
        combiner: Combiner = "mean",
        scale: float = 0.05,
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, l2=l2, name=name)
        if num_buckets < 1 or num_hashes < 1:
            raise self._config_error(
                "num_buckets >= 1 and num_hashes >= 1", f"num_buckets={num_buckets}, num_hashes={num_hashes}"
            )
        self.num_buckets, self.num_hashes = num_buckets, num_hashes
        self.table = EmbeddingTable(num_buckets + NUM_SPECIAL_IDS, dim, scale=scale / num_hashes**0.5, name=self.name)

    def _grow(self, num_ids: int) -> None:
        """More ids share the same rows."""

    def _look_up(self, ids: Tensor) -> Tensor:
        hashes = [bucket_ids(ids, self.num_buckets, (0, salt)) for salt in range(self.num_hashes)]
        rows = self._in_range(ids.flatten(), torch.stack(hashes).flatten(1))
        vectors: Tensor = self.table(rows).sum(dim=0)
        return vectors.reshape(*ids.shape, self.dim)
