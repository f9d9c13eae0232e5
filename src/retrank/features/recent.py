"""`Recent`: what a query did last, in the ids of the candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.arguments import check_count, check_number
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

__all__ = ["Recent", "share_vocabularies"]


@final
@dataclass(frozen=True)
class ListLengths(Summary):
    """The type of the keys in lists, None if all lists are empty, and how long the longest list is."""

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


@final
class Recent(Feature):
    """A column of lists of keys, the latest last, as a `Jagged` of ids in the vocabulary of another feature.

    Each id has a weight, 1 for the latest and less for older ones, that pooled embeddings honour.

    Args:
        of: the feature whose vocabulary the keys are in, e.g. `"movie_id"`.
        length: at most this many keys, the last of a longer list; None keeps all. A `Recommender` that reads from its
            history what a query did last gives at most this many, or as many as the longest list in training.
        decay: the weight of a key with n later ones is `exp(-decay * n)`.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in a
            list id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `length` below 1 or a negative `decay`.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"film": ["Big", "Heat", "Heat"], "recent": [[], ["Big"], ["Big", "Heat"]]})
        >>> kinds = {"film": rr.features.Categorical(), "recent": rr.features.Recent("film", decay=0.7)}
        >>> recent = rr.FeatureSpace(kinds).fit(views).transform(views)["recent"]
        >>> recent.to_lists(), recent.weights
        ([[], [3], [3, 2]], tensor([1.0000, 0.4966, 1.0000]))
    """

    emits: ClassVar[Emits] = "lists of ids"
    former_arguments: ClassVar[Mapping[str, str]] = {"max_length": "length"}

    def __init__(
        self,
        of: str,
        *,
        length: int | None = None,
        decay: float = 0.0,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        super().__init__(column)
        check_count(length, "length", "Recent")
        check_nulls(nulls, "Recent")
        check_number(decay, "decay", "Recent", least=0)
        self.of, self.length, self.decay, self.nulls = of, length, decay, nulls
        self._vocabulary: Vocabulary | None = None
        self._longest: int | None = None

    def share(self, vocabulary: Vocabulary) -> None:
        """Use a vocabulary from now on.

        Args:
            vocabulary: that of the feature `of`.
        """
        self._vocabulary = vocabulary

    def summarize(self, values: pl.Series) -> "ListLengths":
        """Measure the lists of a part; see `Feature.summarize`."""
        lists = flatten(values, self.nulls)
        kind = key_type(lists.keys(None)) if lists.values.dtype != pl.Null else None
        return ListLengths(kind, int(lists.lengths.max(initial=0)))

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Keep the length of the longest list; see `Feature.learn`."""
        assert isinstance(summary, ListLengths)
        self._longest = max(summary.longest, 1)

    @property
    def longest(self) -> int | None:
        """How many recent candidates a query may have: `length`, else as many as there were in training."""
        return self._longest if self.length is None else self.length

    def state(self) -> State:
        """Return the length of the longest list; see `Feature.state`."""
        return State({} if self._longest is None else {"longest": self._longest}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over the length of the longest list, which spaces of old did not keep; see `Feature.load_state`."""
        longest = state.values.get("longest")
        if longest is not None and (type(longest) is not int or longest < 1):
            raise StorageError("a length of at least 1", repr(longest), where)
        self._longest = longest

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn lists of keys into a `Jagged` of ids with weights, oldest first; see `Feature.transform`."""
        if self.length is not None and isinstance(values.dtype, pl.List):
            values = values.list.tail(self.length)
        lists = flatten(values, self.nulls)
        return self.weighted(lists.jagged(self.ids(lists.keys(fitted(self._vocabulary, self).key_type))))

    def ids(self, keys: pl.Series) -> Tensor:
        """Return the `(n,)` int64 ids of keys in the vocabulary of the feature `of`."""
        return fitted(self._vocabulary, self).ids(keys)

    def weighted(self, recent: Jagged) -> Jagged:
        """Give each id its weight.

        Args:
            recent: ids, the latest last, at most `longest` per row.

        Returns:
            The same ids with weights.
        """
        if len(recent) == 1:  # a request
            later = torch.arange(len(recent.values) - 1, -1, -1)
        else:
            later = recent.offsets[1:][recent.row_index()] - torch.arange(1, len(recent.values) + 1)
        return Jagged.unchecked(recent.values, recent.offsets, torch.exp(-self.decay * later))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", is_jagged=True, num_ids=fitted(self._vocabulary, self).num_ids)


def share_vocabularies(features: Mapping[str, Feature]) -> None:
    """Give every `Recent` the vocabulary it names, if that is fitted.

    Args:
        features: kind of each feature by name.

    Raises:
        ConfigError: a `Recent` of a feature that does not exist or has no vocabulary.
    """
    for name, feature in features.items():
        if isinstance(feature, Recent):
            owner = features.get(feature.of)
            if not isinstance(owner, VocabularyFeature):
                with_one = [other for other, kind in features.items() if isinstance(kind, VocabularyFeature)]
                raise ConfigError(
                    f"one of {with_one}", f"'{feature.of}'", f"feature '{name}'", "name the candidates' key"
                )
            if owner.is_fitted:
                feature.share(owner.vocabulary)
