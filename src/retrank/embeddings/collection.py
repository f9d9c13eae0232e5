"""`EmbeddingCollection`: the tables of several features."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast, final

from torch import Tensor, nn

from retrank.core.batch import Batch, as_batch
from retrank.core.errors import ConfigError, DataError
from retrank.core.schema import Schema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.embeddings import Embeddings
from retrank.embeddings.prepared import PreparedEmbeddings
from retrank.embeddings.table import Table
from retrank.ops.concatenate_lookups import concatenate_lookups

__all__ = ["EmbeddingCollection"]


@final
class EmbeddingCollection(Embeddings):
    """Tables by feature; a batch goes in, a vector for every feature comes out.

    Args:
        tables: feature name to its table of any kind, in the order of the output. Two features share a table when both
            are given the same object, or when one is given the name of the other.

    Raises:
        ConfigError: no tables, or a name that has no table of its own.

    Example:
        >>> import torch, retrank as rr
        >>> embeddings = rr.EmbeddingCollection({"movie_id": rr.EmbeddingTable(10, 4), "watched": "movie_id"})
        >>> batch = rr.Batch({"movie_id": torch.tensor([3]), "watched": rr.Jagged.from_lists([[3]])})
        >>> vectors = embeddings(batch)
        >>> list(vectors), torch.equal(vectors["movie_id"], vectors["watched"])
        (['movie_id', 'watched'], True)

    Source: TorchRec's `EmbeddingBagCollection` and the Keras-RS `FeatureConfig`, without their config objects.
    """

    def __init__(self, tables: Mapping[str, Table | str]) -> None:
        super().__init__()
        owner_of: dict[Table, str] = {}
        owners: dict[str, str] = {}
        for feature, table in tables.items():
            owned = tables.get(table) if isinstance(table, str) else table
            if not isinstance(owned, Table):
                raise ConfigError(
                    "a table, or the name of a feature that has one",
                    repr(table) if isinstance(table, str) else type(table).__name__,
                    f"EmbeddingCollection, feature '{feature}'",
                    "give each shared table to one feature and its name to the others",
                )
            owners[feature] = owner_of.setdefault(owned, table if isinstance(table, str) else feature)
        if not owners:
            raise ConfigError("at least one table", "none", "EmbeddingCollection", "give each id feature a table")
        # A list, not a dict by feature: a feature may have a dot in its name, or that of a method.
        self.tables = nn.ModuleList(owner_of)
        places = {owner: place for place, owner in enumerate(owner_of.values())}
        self._places = {feature: places[owner] for feature, owner in owners.items()}
        # Recorded by name, so that tables are still shared after a round trip through JSON.
        named = {feature: self[feature] if feature == owner else owner for feature, owner in owners.items()}
        self._record(tables=named)

    @property
    def features(self) -> tuple[str, ...]:
        """The feature names, in order."""
        return tuple(self._places)

    @property
    def dims(self) -> dict[str, int]:
        """The length of each feature's vector."""
        return {feature: table.dim for feature, table in self._owners()}

    def __getitem__(self, feature: str) -> Table:
        """Return the table of a feature."""
        table = self.tables[self._places[feature]]
        assert isinstance(table, Table)
        return table

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Look up every feature of the collection.

        Args:
            batch: has a column of ids for every feature: `(batch,)`, `(batch, length)`, or a `Jagged`, which is pooled.

        Returns:
            Feature name to `(batch, dim)`; `(batch, length, dim)` for a rectangle of ids.

        Raises:
            DataError: a column is missing, or an id is outside of its table.
        """
        batch = as_batch(batch, "EmbeddingCollection")
        return {feature: table(batch[feature]) for feature, table in self._owners()}

    def tables_by_feature(self) -> dict[str, Table]:
        """Return the table of every feature; shared ones come several times."""
        return dict(self._owners())

    def concatenate(self, batch: Batch, others: Sequence[Tensor] = ()) -> Tensor:
        """Look up every feature, into one vector per row.

        Args:
            batch: has a column of ids for every feature: `(batch,)`, or a `Jagged`, which is pooled.
            others: `(batch, width)` floats that follow.

        Returns:
            `(batch, sum of the dims and widths)`: the features in order, then the others.

        Raises:
            DataError: a column is missing, or an id is outside of its table.
        """
        batch = as_batch(batch, "EmbeddingCollection")
        lookups = [table.lookup(batch[feature]) for feature, table in self._owners()]
        try:
            return concatenate_lookups([*lookups, *others])
        except DataError:
            self(batch)  # says which column and row
            raise

    def prepared(self, features: Sequence[str]) -> PreparedEmbeddings:
        """Return what looks up some features, in less time than `concatenate`, for a model that does not change.

        Args:
            features: which, in order.

        Returns:
            Takes a batch; see `PreparedEmbeddings`.
        """
        return PreparedEmbeddings([(feature, self[feature]) for feature in features])

    def grow(self, schema: Schema) -> None:
        """Grow each table to the largest vocabulary of its features; see `Table.grow`.

        Args:
            schema: of the grown feature space.

        Raises:
            ConfigError: a feature that the schema does not have or that has no ids, or a table that cannot grow.

        Example:
            >>> import retrank as rr
            >>> embeddings = rr.EmbeddingCollection({"movie_id": rr.EmbeddingTable(10, 4), "watched": "movie_id"})
            >>> ids = rr.core.ColumnSchema("movie_id", "ids", num_ids=12)
            >>> embeddings.grow({"movie_id": ids, "watched": ids})
            >>> embeddings["watched"].num_ids
            12
        """
        sizes: dict[Table, int] = {}
        for feature, table in self._owners():
            known = schema.get(feature)
            if known is None or known.num_ids is None:
                expected = f"features of ids, some of {[name for name, column in schema.items() if column.num_ids]}"
                raise ConfigError(expected, f"'{feature}'", "EmbeddingCollection.grow", "grow its table yourself")
            sizes[table] = max(sizes.get(table, table.num_ids), known.num_ids)
        for table, num_ids in sizes.items():
            table.grow(num_ids)

    def linear_terms(self) -> "EmbeddingCollection":
        """Make a weight, at first 0, for every id that has a vector.

        Returns:
            Tables of length 1 for the same features, shared where those are, that pool lists in the same way.
        """
        weights = {
            table: EmbeddingTable(table.num_ids, 1, combiner=table.combiner, scale=0.0, name=f"{table.name}_linear")
            for table in dict.fromkeys(self[feature] for feature in self._places)
        }
        return EmbeddingCollection({feature: weights[self[feature]] for feature in self._places})

    def _owners(self) -> Iterator[tuple[str, Table]]:
        tables = cast("list[Table]", list(self.tables))
        return ((feature, tables[place]) for feature, place in self._places.items())
