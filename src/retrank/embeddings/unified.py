"""`UnifiedEmbedding`: all features share the same few tables."""

from collections.abc import Mapping
from functools import partial
from itertools import accumulate, pairwise
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch, as_batch
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.penalties import add_penalty
from retrank.core.schema import NUM_SPECIAL_IDS, Schema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.embeddings import Embeddings
from retrank.embeddings.hashing import bucket_ids
from retrank.embeddings.pooling import Combiner

__all__ = ["UnifiedEmbedding"]


@final
class UnifiedEmbedding(Embeddings):
    """Feature multiplexing: a vector is made of chunks, each looked up by another hash of the id in a shared table.

    The chunks of all features, in order, are dealt to the tables in turn. Padding is zeros; unknown is a row of each
    table that starts at zero, common to all features. The gradients are row-sparse. Any id is hashed, so a vocabulary
    may grow without a change here.

    Args:
        features: feature name to its number of chunks, in the order of the output.
        buckets_per_table: rows of a table that the ids of all features share.
        dim_per_table: length of a chunk.
        num_tables: how many tables; a feature with more chunks reads some of them more than once.
        combiner: how lists are pooled, see `EmbeddingTable`.
        scale: half the width of the initial uniform distribution.
        l2: factor of `penalty`.

    Raises:
        ConfigError: no features, or an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> embeddings = rr.embeddings.UnifiedEmbedding(
        ...     {"user_id": 2, "movie_id": 3}, buckets_per_table=1_000, dim_per_table=8, num_tables=2
        ... )
        >>> embeddings.dims, embeddings.tables_of("movie_id")
        ({'user_id': 16, 'movie_id': 24}, (0, 1, 0))
        >>> embeddings(rr.Batch({"user_id": torch.tensor([3]), "movie_id": torch.tensor([3])}))["movie_id"].shape
        torch.Size([1, 24])

    Source: Coleman et al., Unified Embedding, NeurIPS 2023; `UnifiedEmbedding` of TensorFlow Recommenders, which joins
    chunk 10 before chunk 2 and cannot be loaded again.
    """

    def __init__(
        self,
        features: Mapping[str, int],
        *,
        buckets_per_table: int,
        dim_per_table: int,
        num_tables: int = 1,
        combiner: Combiner = "mean",
        scale: float = 0.05,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"buckets_per_table": buckets_per_table, "dim_per_table": dim_per_table, "num_tables": num_tables}
        if not features or min(*features.values(), *sizes.values()) < 1 or not l2 >= 0:
            raise ConfigError(
                "features of one chunk or more, positive sizes, and l2 >= 0",
                f"features={dict(features)}, "
                + ", ".join(f"{name}={size}" for name, size in sizes.items())
                + f", {l2=}",
                "UnifiedEmbedding",
            )
        self.buckets_per_table, self.dim_per_table = buckets_per_table, dim_per_table
        self.combiner, self.l2 = combiner, l2
        self.tables = nn.ModuleList(
            EmbeddingTable(
                buckets_per_table + NUM_SPECIAL_IDS,
                dim_per_table,
                combiner=combiner,
                scale=scale,
                name=f"unified_{place}",
            )
            for place in range(num_tables)
        )
        starts = accumulate(features.values(), initial=0)
        self._tables_of = {
            feature: tuple(chunk % num_tables for chunk in range(first, last))
            for feature, (first, last) in zip(features, pairwise(starts), strict=True)
        }

    @property
    def features(self) -> tuple[str, ...]:
        """The feature names, in order."""
        return tuple(self._tables_of)

    @property
    def dims(self) -> dict[str, int]:
        """The length of each feature's vector."""
        return {feature: len(tables) * self.dim_per_table for feature, tables in self._tables_of.items()}

    def tables_of(self, feature: str) -> tuple[int, ...]:
        """Return the table of each chunk of a feature."""
        return self._tables_of[feature]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Look up every feature.

        Args:
            batch: has a column of ids for every feature: `(batch,)`, `(batch, length)`, or a `Jagged`, which is pooled.

        Returns:
            Feature name to `(batch, dim)`, the concatenated chunks; `(batch, length, dim)` for a rectangle of ids.

        Raises:
            DataError: a column is missing, or an id is negative.
            ShapeError: ids that are not int64 or of another shape.
        """
        batch = as_batch(batch, "UnifiedEmbedding")
        vectors = {feature: self._look_up(feature, batch[feature]) for feature in self._tables_of}
        if self.l2:
            add_penalty(partial(self.penalty, batch.select(self.features)))
        return vectors

    def penalty(self, batch: Batch) -> Tensor:
        """Return l2 · Σ‖e‖² / batch over the vectors of all ids, which each forward pass adds to the loss of its step.

        Args:
            batch: as in `forward`; lists count every id that they hold, whatever their weights.

        Returns:
            A scalar tensor, whose gradient is row-sparse.
        """
        batch = as_batch(batch, "UnifiedEmbedding")
        squares = [
            self._look_up(feature, ids.values if isinstance(ids, Jagged) else ids).square().sum()
            for feature, ids in ((feature, batch[feature]) for feature in self._tables_of)
        ]
        return torch.stack(squares).sum() * (self.l2 / max(len(batch), 1))

    def grow(self, schema: Schema) -> None:
        """Do nothing: any id is hashed; see `Embeddings.grow`."""

    def linear_terms(self) -> "UnifiedEmbedding":
        """Make a weight, at first 0, for every id: one hash per feature, in tables of the same number of rows."""
        return UnifiedEmbedding(
            dict.fromkeys(self._tables_of, 1),
            buckets_per_table=self.buckets_per_table,
            dim_per_table=1,
            num_tables=len(self.tables),
            combiner=self.combiner,
            scale=0.0,
        )

    def _look_up(self, feature: str, ids: Tensor | Jagged) -> Tensor:
        place = self.features.index(feature)
        chunks = [
            self.tables[table](_hashed(ids, self.buckets_per_table, (place, chunk)))
            for chunk, table in enumerate(self._tables_of[feature])
        ]
        return torch.cat(chunks, dim=-1)


def _hashed(ids: Tensor | Jagged, num_buckets: int, salt: tuple[int, int]) -> Tensor | Jagged:
    if isinstance(ids, Jagged):
        return ids.with_values(bucket_ids(ids.values, num_buckets, salt))
    return bucket_ids(ids, num_buckets, salt)
