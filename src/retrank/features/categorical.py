"""Keys as ids, by a fitted vocabulary."""

import warnings
from abc import abstractmethod
from typing import ClassVar, Final, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError, DataError, RetrankWarning, StorageError
from retrank.core.jagged import Jagged
from retrank.core.schema import ColumnSchema
from retrank.data.keys import Nulls, as_keys, check_nulls, holds_nothing, key_type
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.list_columns import Lists, flatten
from retrank.features.list_weights import read_weights
from retrank.features.state import State
from retrank.features.statistics import KeyCounts, Summary
from retrank.features.vocabulary import Vocabulary

__all__ = ["Categorical", "CategoricalList", "VocabularyFeature"]

_FILLED: Final = pl.element().filter(pl.element() != "")


class VocabularyFeature(Feature):
    """A kind that counts keys, keeps the frequent ones, and emits their ids.

    Args:
        min_count: keys that occur less often become unknown.
        max_size: at most this many keys are kept, the most frequent; None keeps all.
        nulls: "error" refuses nulls, "unknown" accepts them.
        column: the column to read; the feature's name by default.
    """

    can_grow: ClassVar[bool] = True

    def __init__(self, min_count: int, max_size: int | None, nulls: Nulls, column: str | None) -> None:
        super().__init__(column)
        check_count(min_count, "min_count", type(self).__name__)
        check_count(max_size, "max_size", type(self).__name__)
        check_nulls(nulls, type(self).__name__)
        self.min_count, self.max_size, self.nulls = min_count, max_size, nulls
        self._vocabulary: Vocabulary | None = None

    @abstractmethod
    def _keys(self, values: pl.Series) -> pl.Series:
        """Return every key of a column, in any shape the kind accepts, one after another."""

    @property
    def is_fitted(self) -> bool:
        """Whether there is a vocabulary."""
        return self._vocabulary is not None

    @property
    def vocabulary(self) -> Vocabulary:
        """The keys and their ids."""
        return fitted(self._vocabulary, self)

    def summarize(self, values: pl.Series) -> Summary:
        """Count the keys of a part; see `Feature.summarize`."""
        return KeyCounts.of(self._keys(values))

    def learn(self, summary: Summary, *, where: str) -> None:
        """Keep the frequent keys; see `Feature.learn`.

        Raises:
            DataError: there is no key, or none is frequent enough.
        """
        assert isinstance(summary, KeyCounts)
        vocabulary = Vocabulary.from_counts(summary, min_count=self.min_count, max_size=self.max_size)
        if not len(vocabulary):
            raise DataError(
                f"a key that occurs at least {self.min_count} times", f"{summary.frame.height} keys, none so frequent",
                where, "lower min_count",
            )  # fmt: skip
        self._vocabulary = vocabulary

    def grow(self, summary: Summary, *, where: str) -> None:
        """Add new keys after the old ones, counts added up; see `Feature.grow`.

        A new key must occur `min_count` times in the new rows. Warns if `max_size` leaves new keys out.
        """
        assert isinstance(summary, KeyCounts)
        found, expected = key_type(summary.frame["key"]), self.vocabulary.key_type
        if found != expected:
            raise DataError(f"{expected} keys, as it was fitted on", f"{found} keys", where, "cast the column")
        wanted = self.vocabulary.grow_from(summary, min_count=self.min_count)
        self._vocabulary = self.vocabulary.grow_from(summary, min_count=self.min_count, max_size=self.max_size)
        if left_out := len(wanted) - len(self._vocabulary):
            message = f"{where}: max_size={self.max_size} leaves {left_out} new keys unknown; raise it to add them"
            warnings.warn(message, RetrankWarning, stacklevel=3)

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", is_jagged=self.emits == "lists of ids", num_ids=self.vocabulary.num_ids)

    def state(self) -> State:
        """Return the vocabulary; see `Feature.state`."""
        return State({}, {"vocabulary": self.vocabulary.to_frame()})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over a vocabulary; see `Feature.load_state`."""
        if "vocabulary" not in state.frames:
            raise StorageError("a vocabulary", f"the tables {list(state.frames)}", where)
        self._vocabulary = Vocabulary.from_frame(state.frames["vocabulary"], where)


@final
class Categorical(VocabularyFeature):
    """A column of keys (strings, integers or booleans) as vocabulary ids.

    Args:
        min_count: keys that occur less often become unknown.
        max_size: at most this many keys are kept, the most frequent; None keeps all. Padding and unknown do not count.
        nulls: "error" refuses nulls, "unknown" gives them id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> import polars as pl, retrank as rr
        >>> space = rr.FeatureSpace({"film": rr.features.Categorical()})
        >>> space.fit(pl.DataFrame({"film": ["Big", "Heat", "Heat"]})).transform(
        ...     pl.DataFrame({"film": ["Heat", "Big", "Jaws"]}))["film"]
        tensor([2, 3, 1])

    Source: `string_categorical` and `integer_categorical` of Keras' FeatureSpace, whose `max_tokens` also counts the
    unknown token and whose ids start at 0 = unknown; the order of the keys is the same.
    """

    emits: ClassVar[Emits] = "ids"

    def __init__(
        self, *, min_count: int = 1, max_size: int | None = None, nulls: Nulls = "error", column: str | None = None
    ) -> None:
        super().__init__(min_count, max_size, nulls, column)

    def _keys(self, values: pl.Series) -> pl.Series:
        return as_keys(values, None, self.nulls)

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002 (the name matters to hashed kinds)
        """Turn keys into `(rows,)` int64 ids; see `Feature.transform`."""
        vocabulary = self.vocabulary
        return vocabulary.ids(as_keys(values, vocabulary.key_type, self.nulls))


@final
class CategoricalList(VocabularyFeature):
    """A column of lists of keys, such as genres or tags, as a `Jagged` of vocabulary ids.

    Args:
        min_count: keys that occur less often, over all lists, become unknown.
        max_size: at most this many keys are kept, the most frequent; None keeps all.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in
            a list id 1.
        separator: what stands between the keys of a list where the column holds text, as `"|"` in `drama|war`; spaces
            around keys and empty keys are left out. Lists stay lists.
        weights: a second column, of lists of numbers from 0 up, as many as the keys: how much each key counts when
            embeddings are pooled. None for equal weights. A query that brings such lists brings their weights too.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: an argument out of range, or an empty separator.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"genres": [["drama", "war"], [], ["drama"]], "shares": [[0.8, 0.2], [], [1.0]]})
        >>> rr.FeatureSpace({"genres": rr.features.CategoricalList()}).fit(films).transform(films)["genres"].to_lists()
        [[2, 3], [], [2]]
        >>> texts = pl.DataFrame({"genres": ["drama|war", "", "drama"]})
        >>> space = rr.FeatureSpace({"genres": rr.features.CategoricalList(separator="|")}).fit(texts)
        >>> space.transform(texts)["genres"].to_lists()
        [[2, 3], [], [2]]
        >>> space = rr.FeatureSpace({"genres": rr.features.CategoricalList(weights="shares")}).fit(films)
        >>> space.transform(films)["genres"].weights
        tensor([0.8000, 0.2000, 1.0000])
    """

    emits: ClassVar[Emits] = "lists of ids"

    def __init__(
        self,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        nulls: Nulls = "error",
        separator: str | None = None,
        weights: str | None = None,
        column: str | None = None,
    ) -> None:
        super().__init__(min_count, max_size, nulls, column)
        if separator is not None and not (isinstance(separator, str) and separator):
            raise ConfigError("what stands between keys, e.g. '|'", repr(separator), "separator of CategoricalList")
        self.separator, self.weights = separator, weights

    @property
    def other_columns(self) -> tuple[str, ...]:
        """The column of weights, if there is one."""
        return () if self.weights is None else (self.weights,)

    def _keys(self, values: pl.Series) -> pl.Series:
        return self._lists(values).keys(None)

    def _lists(self, values: pl.Series) -> Lists:
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum) or holds_nothing(values):
            return flatten(values, self.nulls)
        if self.separator is None:
            fix = "say what separates them, e.g. separator='|', or use Categorical for one key a row"
            raise DataError("lists of keys", str(values.dtype), f"column '{values.name}'", fix)
        split = pl.first().cast(pl.String).str.split(self.separator).list.eval(pl.element().str.strip_chars())
        return flatten(values.to_frame().select(split.list.eval(_FILLED)).to_series(), self.nulls)

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn lists of keys into a `Jagged` of ids, in the order of the list; see `Feature.transform`."""
        vocabulary = self.vocabulary
        lists = self._lists(values)
        return lists.jagged(vocabulary.ids(lists.keys(vocabulary.key_type)))

    def transform_rows(self, rows: pl.DataFrame, name: str) -> Jagged:
        """Turn lists of keys into a `Jagged` of ids, with the weights of their column; see `Feature.transform_rows`."""
        keys = rows.get_column(self.column or name)
        ids = self.transform(keys, name)
        if self.weights is None:
            return ids
        weights = read_weights(rows.get_column(self.weights), ids.lengths().numpy(), keys.name, self.nulls)
        return Jagged.unchecked(ids.values, ids.offsets, torch.from_numpy(weights))
