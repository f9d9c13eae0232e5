"""Short texts, such as titles, as lists of word ids."""

from typing import ClassVar, Final, Literal, final

import numpy as np
import polars as pl
import torch

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.notices import warn_once
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.data.key_index import KeyIndex
from retrank.data.keys import Nulls, holds_nothing
from retrank.features.categorical import VocabularyFeature
from retrank.features.counting import count_keys
from retrank.features.kinds import Emits, fitted
from retrank.features.state import State
from retrank.features.statistics import KeyCounts, Summary
from retrank.features.tf_idf import InverseFrequencies, TextCounts
from retrank.features.words import Standardize, WordSplitter

__all__ = ["Text"]

_BETWEEN: Final = {"|": r"\w ?\| ?\w", ";": r"[^\W\d];[^\W\d]", ",": r"[^\W\d],[^\W\d]"}
_LIKELY: Final = 0.1  # of all texts; many lists have one key
_MANY: Final = 4096  # rows from which on it pays to look for texts that repeat


@final
class Text(VocabularyFeature):
    """A column of texts as a `Jagged` of word ids: lower case, ASCII punctuation removed, split at white space.

    Args:
        max_tokens: rows of the embedding table at most, padding and unknown included; None keeps every word.
        max_length: a longer text keeps its first words, this many; n-grams count as words, each length after the one
            before. None keeps all.
        standardize: "lower_and_strip_punctuation", "lower", "strip_punctuation", or None for texts as they are; in
            each case they are split at white space.
        ngrams: also take neighbouring words as one, with a space between them: n for words and all n-grams up to n, a
            list for just these lengths, e.g. `[2]` for pairs alone. None for words.
        weights: `"tf_idf"` gives each word the weight c * log(1 + N / (1 + n)), for pooled embeddings: c times in this
            text, and in n of the N texts that were fitted. A text then has each word once, and unknown words, which
            are one, have the mean of all logarithms. When the vocabulary grows, known words keep theirs, and for new
            ones n counts the new texts and N all. Pooled by `combiner="sum"` this is what a dense layer makes of a
            rectangle of tf-idf. None for no weights.
        nulls: "error" refuses nulls, "unknown" makes them empty.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `max_tokens` below 3, `max_length` or a length of n-grams below 1, or an unknown name.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"title": ["Toy Story", "Toy Story 2", "Heat"]})
        >>> space = rr.FeatureSpace({"title": rr.features.Text()}).fit(films)
        >>> space.vocabulary("title").keys.to_list()
        ['toy', 'story', 'heat', '2']
        >>> space.transform(pl.DataFrame({"title": ["The Toy-Story!", "Toy: Heat"]}))["title"].to_lists()
        [[1, 1], [2, 4]]
        >>> pairs = rr.FeatureSpace({"title": rr.features.Text(standardize=None, ngrams=[2])}).fit(films)
        >>> pairs.vocabulary("title").keys.to_list()
        ['Toy Story', 'Story 2']
        >>> weighted = rr.FeatureSpace({"title": rr.features.Text(weights="tf_idf")}).fit(films).transform(films)
        >>> weighted["title"][2:].weights  # log(1 + 3 / 2)
        tensor([0.9163])

    Source: Keras' `TextVectorization`, with the same ids, n-grams and weights. Ours also lowers letters beyond ASCII.
    """

    emits: ClassVar[Emits] = "lists of ids"

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_length: int | None = None,
        standardize: Standardize | None = "lower_and_strip_punctuation",
        ngrams: int | list[int] | tuple[int, ...] | None = None,
        weights: Literal["tf_idf"] | None = None,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        check_count(max_tokens, "max_tokens", "Text", least=NUM_SPECIAL_IDS + 1)
        check_count(max_length, "max_length", "Text")
        super().__init__(1, None if max_tokens is None else max_tokens - NUM_SPECIAL_IDS, nulls, column)
        if weights not in ("tf_idf", None):
            raise ConfigError("weights='tf_idf' or None", repr(weights), "Text")
        self._splitter = WordSplitter(standardize, ngrams, "Text")
        self.max_length, self.weights = max_length, weights
        self._inverse_frequencies: InverseFrequencies | None = None

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
        return self._splitter.split(self._texts(values), None).values

    def summarize(self, values: pl.Series) -> Summary:
        """Count the words of a part, a text that repeats only once and times its count; see `Feature.summarize`."""
        texts = self._texts(values)
        _warn_of_lists(texts)
        repeats = _repeat(texts)
        if not (repeats or self.weights):
            return super().summarize(values)
        texts = texts.fill_null("")
        times = np.ones(len(texts), dtype=np.int64)
        if repeats:
            distinct = KeyCounts.of(texts).frame
            texts, times = distinct["key"], distinct["count"].to_numpy()
        words = self._splitter.split(texts, None)
        if self.weights:
            return TextCounts.of(words, times)
        return KeyCounts(count_keys(words.values, pl.Series(np.repeat(times, words.lengths))))

    def learn(self, summary: Summary, *, where: str) -> None:
        """Keep the frequent words, and how many texts have them; see `VocabularyFeature.learn`."""
        super().learn(summary.words if isinstance(summary, TextCounts) else summary, where=where)
        if isinstance(summary, TextCounts):
            self._inverse_frequencies = InverseFrequencies.learned(self.vocabulary, summary)

    def grow(self, summary: Summary, *, where: str) -> None:
        """Add new words after the old ones, whose weights stay as they are; see `VocabularyFeature.grow`."""
        super().grow(summary.words if isinstance(summary, TextCounts) else summary, where=where)
        if isinstance(summary, TextCounts):
            known = fitted(self._inverse_frequencies, self)
            self._inverse_frequencies = known.grown(self.vocabulary, summary)

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn texts into a `Jagged` of word ids, with weights if asked for; see `Feature.transform`."""
        texts = self._texts(values)
        if not _repeat(texts):
            return self._ids(texts)
        texts = texts.fill_null("")
        distinct = texts.unique()
        return self._ids(distinct).take(torch.from_numpy(KeyIndex(distinct).find(texts)))

    def _ids(self, texts: pl.Series) -> Jagged:
        vocabulary, words = self.vocabulary, self._splitter.split(texts, self.max_length)
        ids = words.jagged(vocabulary.ids(words.values))
        return ids if self.weights is None else fitted(self._inverse_frequencies, self).weigh(ids)

    def state(self) -> State:
        """Return the vocabulary, and the weights of its words; see `Feature.state`."""
        state = super().state()
        if self.weights is None:
            return state
        weights = fitted(self._inverse_frequencies, self).state()
        return State(state.values | weights.values, state.frames | weights.frames)

    def load_state(self, state: State, *, where: str) -> None:
        """Take over a vocabulary, and the weights of its words; see `Feature.load_state`."""
        super().load_state(state, where=where)
        if self.weights is not None:
            self._inverse_frequencies = InverseFrequencies.from_state(state, self.vocabulary.num_ids, where)


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
