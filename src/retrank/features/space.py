"""`FeatureSpace`: a table's columns to model inputs, the same in training and serving."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import ClassVar, Self, final

import torch

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, NotFittedError
from retrank.core.schema import Schema
from retrank.core.snapshots import Snapshot, read_directory
from retrank.core.values import built_from
from retrank.core.working import Working
from retrank.data.batches import Batches
from retrank.data.checks import require_columns
from retrank.data.sources import TableLike, frame
from retrank.features.catalogue import Catalogue
from retrank.features.cross import Cross
from retrank.features.description import describe
from retrank.features.fitting import TableSummary, summarize_table
from retrank.features.kinds import Feature
from retrank.features.layout import Layout
from retrank.features.loading import make_loader, transform_whole
from retrank.features.storage import Stored, parse_space, write_space
from retrank.features.vocabulary import Vocabulary

__all__ = ["FeatureSpace"]


@final
class FeatureSpace(Configurable):
    """The features of a table: fitted once, then applied alike to training data, catalogues and requests.

    Features are copied, so that one object may stand for many names, and what a space learns stays its own.

    Args:
        features: kind of each feature by name; a kind reads the column of that name, or the one it names itself.
        crosses: combinations of features that emit one id a row.

    Raises:
        ConfigError: no features, a name twice, or a cross of features that do not emit one id a row.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"user_id": ["a", "b", "a"], "age": [20, 30, 20]})
        >>> space = rr.FeatureSpace({"user_id": rr.features.Categorical(), "age": rr.features.Rescaled(0.1)}).fit(views)
        >>> space.transform(pl.DataFrame({"user_id": ["b", "c"], "age": [40, 50]}))["user_id"]
        tensor([3, 1])
        >>> space
        FeatureSpace, fitted on 3 rows
        feature  column   emits       kind
        user_id  user_id  ids, 4      Categorical()
        age      age      numbers, 1  Rescaled(scale=0.1)

    Source: Keras' FeatureSpace. Ours fits in parts, grows, emits one tensor a feature and never one-hot matrices.
    """

    config_context: ClassVar[str] = "space"

    def __init__(self, features: Mapping[str, Feature], crosses: Sequence[Cross] = ()) -> None:
        self._layout = Layout.of(features, crosses)
        self._num_rows: int | None = None
        self._is_frozen = False

    @property
    def names(self) -> list[str]:
        """The names of all features, then of all crosses."""
        return self._layout.names

    @property
    def layout(self) -> Layout:
        """Which columns and features the features and crosses are made of."""
        return self._layout

    @property
    def features(self) -> dict[str, Feature]:
        """The kind of each feature by name, without the crosses."""
        return dict(self._layout.features)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `load` is done."""
        return self._num_rows is not None

    @property
    def schema(self) -> Schema:
        """The description of each feature by name, once the space is fitted."""
        self._require_fitted()
        return self._layout.schema

    def __getitem__(self, name: str) -> Feature:
        """Return a feature that is not a cross.

        Raises:
            ConfigError: no such feature.
        """
        return self._layout.feature(name)

    def columns(self, features: Sequence[str] | None = None) -> list[str]:
        """Return the distinct table columns that features read, in the order of the features.

        Args:
            features: their names; all by default.
        """
        return self._layout.columns(self._layout.select(features))

    def vocabulary(self, name: str) -> Vocabulary:
        """Return the fitted vocabulary of a feature.

        Args:
            name: the feature.

        Raises:
            ConfigError: no such feature, or one without a vocabulary.
            NotFittedError: before `fit`.
        """
        return self._layout.vocabulary(name)

    def fit(self, table: TableLike, *, progress: bool = True) -> Self:
        """Learn vocabularies, moments and quantiles.

        Args:
            table: the training rows; files are read in pieces and never held as a whole.
            progress: whether to show on a terminal how many rows are read.

        Returns:
            The space itself.

        Raises:
            DataError: no rows, a missing column, or a value that a kind refuses.
        """
        with Working("fitting the features", enabled=progress) as work:
            return self.fit_summaries([summarize_table(table, self._layout.features, (0, 1), work)])

    def summarize(self, table: TableLike, *, shard: tuple[int, int] = (0, 1)) -> TableSummary:
        """Say what one shard of a table teaches, for fitting on many machines: it goes to `fit_summaries`.

        Args:
            table: the training rows.
            shard: `(index, count)`: only part `index` of `count`, e.g. `(rank, world_size)`.
        """
        with Working("reading what features learn from") as work:
            return summarize_table(table, self._layout.features, shard, work)

    def fit_summaries(self, summaries: Iterable[TableSummary]) -> Self:
        """Learn from the summaries of all shards.

        Args:
            summaries: what `summarize` returned for each.

        Returns:
            The space itself, fitted as `fit` would on the whole table.

        Raises:
            DataError: no rows in any of them, or columns of different types.

        Example:
            >>> import polars as pl, retrank as rr
            >>> views = pl.DataFrame({"user_id": ["a", "b", "b"]})
            >>> space = rr.FeatureSpace({"user_id": rr.features.Categorical()})
            >>> space.fit_summaries(space.summarize(views, shard=(i, 2)) for i in range(2)).schema["user_id"].num_ids
            4
        """
        self._require_not_frozen("fit")
        total = reduce(TableSummary.merge, summaries, TableSummary(0, {}))
        self._layout, self._num_rows = self._layout.learned(total), total.num_rows
        return self

    def grow(self, table: TableLike, features: Sequence[str] | None = None) -> Self:
        """Add the new keys of a table to the vocabularies; no id changes, no number statistics change.

        Args:
            table: the new rows.
            features: the vocabularies to grow; all by default.

        Returns:
            The space itself; grow the models to it, by `Model.grow`.

        Raises:
            ConfigError: an unknown feature, or one without a vocabulary.
            DataError: a missing column, or a value that a kind refuses.
        """
        self._require_fitted()
        self._require_not_frozen("grow")
        self._layout = self._layout.grown(table, features)
        return self

    def grown(self, table: TableLike, features: Sequence[str] | None = None) -> "FeatureSpace":
        """Return what `grow` makes of this space, which stays as it is and may be frozen; see there."""
        self._require_fitted()
        space = copy.copy(self)
        space._layout, space._is_frozen = self._layout.grown(table, features), False
        return space

    def transform(self, table: TableLike, features: Sequence[str] | None = None) -> Batch:
        """Turn columns into tensors.

        Args:
            table: any rows; only the columns that the features read are needed.
            features: names of features and crosses; all by default.

        Returns:
            One column a feature, in the order of `features`, as `schema` describes them.

        Raises:
            ConfigError: an unknown feature.
            DataError: a missing column, or a value that a kind refuses.
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        names = self._layout.select(features)
        return transform_whole(table, self._layout.columns(names), partial(self._layout.transform, names=names))

    def frozen(self) -> "FeatureSpace":
        """Return the space as it is now, unable to change.

        Returns:
            A space that shares what was learned. Its `fit` and `grow` raise; those of this space do not reach it.

        Example:
            >>> import polars as pl, retrank as rr
            >>> space = rr.FeatureSpace({"film": rr.features.Categorical()}).fit(pl.DataFrame({"film": ["Heat"]}))
            >>> served = space.frozen()
            >>> space.grow(pl.DataFrame({"film": ["Big"]})).schema["film"].num_ids, served.schema["film"].num_ids
            (4, 3)
        """
        self._require_fitted()
        space = copy.copy(self)
        space._is_frozen = True
        return space

    def loader(
        self,
        table: TableLike,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        streaming: bool = False,
        features: Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Batches:
        """Make batches of transformed rows.

        Args:
            table: any rows.
            batch_size: rows of a batch; the last may have fewer.
            shuffle: a new order every epoch; streamed rows are shuffled within windows of 262,144 rows (or 16 batches).
            seed: of the order.
            drop_last: leave out a last batch with fewer rows.
            streaming: read and transform piece by piece in every epoch, instead of holding all rows in memory.
            features: names of features and crosses; all by default.
            device: where the batches go.

        Returns:
            A `Loader`, or a `StreamingLoader`.

        Raises:
            ConfigError: an unknown feature, or a size out of range.
            DataError: a missing column, or a value that a kind refuses.
        """
        self._require_fitted()
        names = self._layout.select(features)
        columns, transform = self._layout.columns(names), partial(self._layout.transform, names=names)
        return make_loader(
            table, columns, transform, batch_size,
            shuffle=shuffle, seed=seed, drop_last=drop_last, streaming=streaming, device=device,
        )  # fmt: skip

    def catalogue(self, table: TableLike, key: str, features: Sequence[str] | None = None) -> Catalogue:
        """Transform a table of candidates, one row each.

        Args:
            table: the candidates.
            key: the feature or column that identifies a candidate.
            features: names of features and crosses; by default all whose columns the table has.

        Returns:
            The candidates' keys and features.

        Raises:
            ConfigError: an unknown feature.
            DataError: a missing column, a null key or a key that occurs twice.
        """
        rows = frame(table)
        if features is None:
            features = [name for name in self.names if set(self.columns([name])) <= set(rows.columns)]
        column = self._layout.column(key) if key in self._layout.features else key
        require_columns(rows, [column], "catalogue")
        return Catalogue(rows.get_column(column), self.transform(rows, features), key)

    def save(self, directory: str | Path) -> None:
        """Write a directory of JSON and Parquet files, as a whole or not at all.

        Args:
            directory: where; an older one there is replaced.

        Raises:
            NotFittedError: before `fit`.

        Example:
            >>> import tempfile, polars as pl, retrank as rr
            >>> space = rr.FeatureSpace({"age": rr.features.Normalized()}).fit(pl.DataFrame({"age": [20, 30]}))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     space.save(f"{folder}/space")
            ...     rr.FeatureSpace.load(f"{folder}/space").transform(pl.DataFrame({"age": [30]}))["age"]
            tensor([1.])
        """
        self._require_fitted()
        write_space(directory, Stored(self._num_rows or 0, self._layout.features, list(self._layout.crosses.values())))

    @classmethod
    def load(cls, directory: str | Path) -> "FeatureSpace":
        """Read what `save` wrote.

        Raises:
            StorageError: a file is missing or damaged, or was written by another version.
        """
        return read_directory(directory, cls.from_snapshot)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> "FeatureSpace":
        """Read what `save` wrote, from a directory that is held open; see `load`."""
        stored = parse_space(snapshot)
        with built_from(str(snapshot.directory)):
            space = cls(stored.features, stored.crosses)
            space._num_rows = stored.num_rows
            _ = space.schema  # every feature has what it learned
        return space

    def __repr__(self) -> str:
        head = f"fitted on {self._num_rows:,} rows" if self.is_fitted else "not fitted"
        schema = self.schema if self.is_fitted else {}
        return f"FeatureSpace, {head}\n{describe(self._layout.features, self._layout.crosses, schema)}"

    def _require_fitted(self) -> None:
        if not self.is_fitted:
            raise NotFittedError("a fitted space", "one that was not fitted", "FeatureSpace", "call fit(table) first")

    def _require_not_frozen(self, change: str) -> None:
        if self._is_frozen:
            fix = "change the space that it was built from, and build another recommender"
            raise ConfigError("a space of your own", "the frozen one of a recommender", f"FeatureSpace.{change}", fix)
