"""`Layout`: the features and crosses of a space, and what they make of a table; a value."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self, final

import polars as pl
import torch

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError, DataError
from retrank.core.schema import Schema
from retrank.core.working import Working
from retrank.data.checks import require_columns
from retrank.data.sources import TableLike
from retrank.features.candidate_lists import share_vocabularies
from retrank.features.categorical import VocabularyFeature
from retrank.features.cross import Cross
from retrank.features.fitting import TableSummary, column_of, columns_of, summarize_table
from retrank.features.kinds import Feature
from retrank.features.vocabulary import Vocabulary

__all__ = ["Layout"]


@final
class Layout(NamedTuple):
    """The features and crosses of a space by name.

    Attributes:
        features: kind of each feature.
        crosses: each cross.
    """

    features: Mapping[str, Feature]
    crosses: Mapping[str, Cross]

    @classmethod
    def of(cls, features: Mapping[str, Feature], crosses: Sequence[Cross]) -> Self:
        """Check and copy features.

        Raises:
            ConfigError: no features, a name twice, or a cross of features that do not emit one id per row.
        """
        if not features:
            raise ConfigError("at least one feature", "none", "FeatureSpace")
        given: Mapping[str, object] = features
        for name, kind in given.items():
            if not isinstance(kind, Feature):
                fix = "build it, e.g. rr.features.Categorical()" if isinstance(kind, type) else None
                raise ConfigError("a feature kind", repr(kind), f"feature '{name}'", fix)
        named = {cross.name: cross for cross in crosses}
        if len(named) < len(crosses) or named.keys() & features.keys():
            got = str([*features, *(cross.name for cross in crosses)])
            raise ConfigError("different names", got, "FeatureSpace", "give the cross another name with name=")
        for cross in crosses:
            cross.check({name: kind.emits for name, kind in features.items()})
        copies = _copies(features)
        share_vocabularies(copies)
        return cls(copies, named)

    @property
    def names(self) -> list[str]:
        """The names of all features, then of all crosses."""
        return [*self.features, *self.crosses]

    @property
    def schema(self) -> Schema:
        """The description of each feature and cross by name."""
        features = {name: feature.schema(name) for name, feature in self.features.items()}
        return features | {name: cross.schema() for name, cross in self.crosses.items()}

    def feature(self, name: str) -> Feature:
        """Return a feature that is not a cross.

        Raises:
            ConfigError: no such feature.
        """
        if name not in self.features:
            raise ConfigError(f"one of {list(self.features)}", f"'{name}'", "feature")
        return self.features[name]

    def vocabulary(self, name: str) -> Vocabulary:
        """Return the vocabulary of a feature.

        Raises:
            ConfigError: no such feature, or one without a vocabulary.
        """
        feature = self.feature(name)
        if not isinstance(feature, VocabularyFeature):
            raise ConfigError("a feature with a vocabulary", repr(feature), f"feature '{name}'", "use Categorical")
        return feature.vocabulary

    def learned(self, summary: TableSummary) -> Self:
        """Return the features as they are after learning from the rows of all shards.

        Raises:
            DataError: no rows, or something that a kind cannot learn from.
        """
        if not summary.num_rows:
            raise DataError("at least one row", "none", "FeatureSpace.fit")
        features = _copies(self.features)
        for name, feature in features.items():
            feature.learn(summary.features[name], where=self._where(name))
        share_vocabularies(features)
        return self._replace(features=features)

    def grown(self, table: TableLike, names: Sequence[str] | None) -> Self:
        """Return the features with the new keys of more rows.

        Args:
            table: the rows.
            names: the features to grow; None for all that have vocabularies.

        Raises:
            ConfigError: an unknown feature, or one without a vocabulary.
            DataError: a missing column, or a value that a kind refuses.
        """
        for name in names or ():
            self.vocabulary(name)
        chosen = [name for name, kind in self.features.items() if kind.can_grow] if names is None else names
        with Working("reading new keys") as work:
            summary = summarize_table(table, {name: self.features[name] for name in chosen}, (0, 1), work)
        features = _copies(self.features)
        for name, part in summary.features.items():
            features[name].grow(part, where=self._where(name))
        share_vocabularies(features)
        return self._replace(features=features)

    def select(self, features: Sequence[str] | None) -> list[str]:
        """Return names of features and crosses, all by default.

        Raises:
            ConfigError: an unknown name, or one text instead of a list.
        """
        if features is None:
            return self.names
        if isinstance(features, str):
            raise ConfigError("a list of names", repr(features), "features", f"write [{features!r}]")
        for name in features:
            if name not in self.features and name not in self.crosses:
                raise ConfigError(f"some of {self.names}", f"'{name}'", "features")
        return list(features)

    def parts(self, names: Iterable[str]) -> list[str]:
        """Return the features that features and crosses are made of, each once."""
        crossed = ((self.crosses[name].features if name in self.crosses else (name,)) for name in names)
        return list(dict.fromkeys(name for parts in crossed for name in parts))

    def column(self, name: str) -> str:
        """Return the table column that a feature reads."""
        return column_of(name, self.features[name])

    def columns(self, names: Iterable[str]) -> list[str]:
        """Return the distinct table columns that features and crosses read."""
        read = (columns_of(name, self.features[name]) for name in self.parts(names))
        return list(dict.fromkeys(column for columns in read for column in columns))

    def transform(self, rows: pl.DataFrame, names: Sequence[str]) -> Batch:
        """Turn columns into tensors.

        Args:
            rows: has the columns that the features read.
            names: the features and crosses of the batch.

        Raises:
            DataError: a missing column, or a value that a kind refuses.
        """
        require_columns(rows, self.columns(names))
        parts = self.parts(names)
        made = {name: self.features[name].transform_rows(rows, name) for name in parts}
        return self.combine(made, names)

    def combine(self, made: Mapping[str, Column], names: Sequence[str]) -> Batch:
        """Make a batch of transformed parts.

        Args:
            made: the transformed features by name; all that `parts(names)` lists.
            names: the features and crosses of the batch.

        Returns:
            One column per name.
        """
        return Batch({name: made[name] if name in self.features else self._crossed(name, made) for name in names})

    def _crossed(self, name: str, made: Mapping[str, Column]) -> Column:
        cross = self.crosses[name]
        return cross.combine([torch.as_tensor(made[part]) for part in cross.features])

    def _where(self, name: str) -> str:
        return f"feature '{name}', column '{self.column(name)}'"


def _copies(features: Mapping[str, Feature]) -> dict[str, Feature]:
    return {name: copy.copy(feature) for name, feature in features.items()}
