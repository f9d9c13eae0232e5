"""Short texts, such as titles, as lists of word ids."""

from typing import ClassVar, Final, final

import numpy as np
import polars as pl
import torch

from retrank.core.arguments import check_count
from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.core.notices import warn_once
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.data.key_index import KeyIndex
from retrank.data.keys import Nulls, holds_nothing
from retrank.features.categorical import VocabularyFeature
from retrank.features.counting import count_keys
from retrank.features.kinds import Emits
from retrank.features.list_columns import Lists, flatten
from retrank.features.statistics import KeyCounts

__all__ = ["Text"]

_TEXT: Final = pl.first().str.to_lowercase().str.replace_all(r"[[:punct:]]", "").str.replace_all(r"[\s--[ ]]", " ")
_WORDS: Final = _TEXT.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))  # far faster than \S+
_BETWEEN: Final = {"|": r"\w ?\| ?\w", ";": r"[^\W\d];[^\W\d]", ",": r"[^\W\d],[^\W\d]"}
_LIKELY: Final = 0.1  # of all texts; many lists have one key
_MANY: Final = 4096  # rows from which on it pays to look for texts that repeat


@final
class Text(VocabularyFeature):
    """A column of texts as a `Jagged` of word ids: lower case, ASCII punctuation removed, split at white space.

    Args:
        max_tokens: rows of the embedding table at most, padding and unknown included; None keeps every word.
        max_length: a longer text keeps its first words, this many; None keeps all.
        nulls: "error" refuses nulls, "unknown" makes them empty.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `max_tokens` below 3 or `max_length` below 1.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"title": ["Toy Story", "Toy Story 2", "Heat"]})
        >>> space = rr.FeatureSpace({"title": rr.features.Text()}).fit(films)
        >>> space.vocabulary("title").keys.to_list()
        ['toy', 'story', 'heat', '2']
        >>> space.transform(pl.DataFrame({"title": ["The Toy-Story!", "Toy: Heat"]}))["title"].to_lists()
        [[1, 1], [2, 4]]

    Source: Keras' `TextVectorization`, with the same ids. Ours also lowers letters beyond ASCII.
    """

    emits: ClassVar[Emits] = "lists of ids"

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_length: int | None = None,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        check_count(max_tokens, "max_tokens", "Text", least=NUM_SPECIAL_IDS + 1)
        check_count(max_length, "max_length", "Text")
        super().__init__(1, None if max_tokens is None else max_tokens - NUM_SPECIAL_IDS, nulls, column)
        self.max_length = max_length

    def _texts(self, values: pl.Series) -> pl.Series:
        if holds_nothing(values):
            values = pl.Series(values.name, [None] * len(values), dtype=pl.String)
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise DataError("texts", str(values.dtype), f"column '{values.name}'", "cast the column to strings")
        texts = values.cast(pl.String)
        if self.nulls == "error" and texts.null_count():
            row, fix = int(texts.is_null().arg_max() or 0), "fill it with \"\", or use nulls='unknown'"
            raise DataError("no nulls", "null", f"column '{values.name}'", fix, row=row)
        return texts

    def _keys(self, values: pl.Series) -> pl.Series:
        return _words(self._texts(values), None).values

    def summarize(self, values: pl.Series) -> KeyCounts:
        """Count the words of a part, a text that repeats only once and times its count; see `Feature.summarize`."""
        texts = self._texts(values)
        _warn_of_lists(texts)
        if not _repeat(texts):
            return super().summarize(values)
        distinct = KeyCounts.of(texts).frame
        words = _words(distinct["key"], None)
        return KeyCounts(count_keys(words.values, pl.Series(np.repeat(distinct["count"].to_numpy(), words.lengths))))

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn texts into a `Jagged` of word ids; see `Feature.transform`."""
        texts = self._texts(values)
        if not _repeat(texts):
            return self._ids(texts)
        texts = texts.fill_null("")
        distinct = texts.unique()
        return self._ids(distinct).take(torch.from_numpy(KeyIndex(distinct).find(texts)))

    def _ids(self, texts: pl.Series) -> Jagged:
        vocabulary, words = self.vocabulary, _words(texts, self.max_length)
        return words.jagged(vocabulary.ids(words.values))


def _warn_of_lists(texts: pl.Series) -> None:
    """Warn where a sign binds words together, as in `drama|war`: without it that is the one word `dramawar`."""
    for sign, pattern in _BETWEEN.items():
        if len(texts) and (texts.str.contains(pattern).sum() or 0) >= len(texts) * _LIKELY:
            warn_once(
                f"column '{texts.name}' looks like lists of keys with {sign!r} between them, of which Text makes one "
                f"word; use CategoricalList(separator={sign!r})",
                stacklevel=3,
            )
            return


def _repeat(texts: pl.Series) -> bool:
    return len(texts) >= _MANY and int(texts.approx_n_unique()) <= len(texts) // 2  # type: ignore[arg-type]


def _words(texts: pl.Series, max_length: int | None) -> Lists:
    words = _WORDS if max_length is None else _WORDS.list.head(max_length)
    return flatten(texts.to_frame().select(words).to_series(), "unknown")
