"""`CandidateLists`: the common part of features that say what a query has, in the ids of the candidates."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import polars as pl
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.core.jagged import Jagged
from retrank.core.schema import ColumnSchema
from retrank.data.keys import KeyType, Nulls, check_nulls, key_type
from retrank.features.categorical import VocabularyFeature
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.list_columns import flatten
from retrank.features.state import State
from retrank.features.statistics import Summary
from retrank.features.vocabulary import Vocabulary

__all__ = ["CandidateLists", "ListLengths", "share_vocabularies"]


@final
@dataclass(frozen=True)
class ListLengths(Summary):
    """What the lists of a part tell.

    Args:
        kind: the type of the keys; None if all lists are empty.
        longest: how long the longest list is.
    """

    kind: KeyType | None
    longest: int

    def merge(self, other: Self) -> Self:
        """Return the statistics of the rows of both; see `Summary.merge`.

        Raises:
            DataError: keys of two types.
        """
        if None not in (self.kind, other.kind) and self.kind != other.kind:
            raise DataError(f"{self.kind} keys in every part", f"{other.kind} keys", "partial statistics")
        return type(self)(self.kind or other.kind, max(self.longest, other.longest))


class CandidateLists(Feature, ABC):
    """Lists of candidates that belong to a query, as ids in the vocabulary of the candidates' own feature.

    Args:
        of: the feature whose vocabulary the keys are in, e.g. `"movie_id"`.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in a
            list id 1.
        column: the column to read; the feature's name by default.
    """

    emits: ClassVar[Emits] = "lists of ids"

    def __init__(self, of: str, nulls: Nulls, column: str | None) -> None:
        super().__init__(column)
        check_nulls(nulls, type(self).__name__)
        self.of, self.nulls = of, nulls
        self._vocabulary: Vocabulary | None = None
        self.longest: int | None = None
        """How long the longest list in training was, at least 1; None before, and in spaces of old."""

    def share(self, vocabulary: Vocabulary) -> None:
        """Use a vocabulary from now on.

        Args:
            vocabulary: that of the feature `of`.
        """
        self._vocabulary = vocabulary

    def summarize(self, values: pl.Series) -> ListLengths:
        """Measure the lists of a part; see `Feature.summarize`."""
        lists = flatten(values, self.nulls)
        kind = key_type(lists.keys(None)) if lists.values.dtype != pl.Null else None
        return ListLengths(kind, int(lists.lengths.max(initial=0)))

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Keep the length of the longest list; see `Feature.learn`."""
        assert isinstance(summary, ListLengths)
        self.longest = max(summary.longest, 1)

    def state(self) -> State:
        """Return the length of the longest list; see `Feature.state`."""
        return State({} if self.longest is None else {"longest": self.longest}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over the length of the longest list, which spaces of old did not keep; see `Feature.load_state`."""
        longest = state.values.get("longest")
        if longest is not None and (type(longest) is not int or longest < 1):
            raise StorageError("a length of at least 1", repr(longest), where)
        self.longest = longest

    def ids(self, keys: pl.Series) -> Tensor:
        """Return the `(n,)` int64 ids of keys in the vocabulary of the feature `of`."""
        return fitted(self._vocabulary, self).ids(keys)

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", is_jagged=True, num_ids=fitted(self._vocabulary, self).num_ids)

    def _jagged(self, values: pl.Series) -> Jagged:
        lists = flatten(values, self.nulls)
        return lists.jagged(self.ids(lists.keys(fitted(self._vocabulary, self).key_type)))


def share_vocabularies(features: Mapping[str, Feature]) -> None:
    """Give every kind of lists of candidates the vocabulary it names, if that is fitted.

    Args:
        features: kind of each feature by name.

    Raises:
        ConfigError: lists of a feature that does not exist or has no vocabulary.
    """
    for name, feature in features.items():
        if isinstance(feature, CandidateLists):
            owner = features.get(feature.of)
            if not isinstance(owner, VocabularyFeature):
                with_one = [other for other, kind in features.items() if isinstance(kind, VocabularyFeature)]
                raise ConfigError(
                    f"one of {with_one}", f"'{feature.of}'", f"feature '{name}'", "name the candidates' key"
                )
            if owner.is_fitted:
                feature.share(owner.vocabulary)
