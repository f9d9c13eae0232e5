"""Texts as numbers, one for each word of a vocabulary."""

import copy
from typing import ClassVar, Literal, final, get_args

import polars as pl
import torch
from torch import Tensor

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError
from retrank.core.schema import UNKNOWN_ID, ColumnSchema
from retrank.data.keys import Nulls
from retrank.features.kinds import Emits, Feature
from retrank.features.state import State
from retrank.features.statistics import Summary
from retrank.features.text import Text
from retrank.features.vocabulary import Vocabulary
from retrank.features.words import Standardize

__all__ = ["BagOfWords"]

Output = Literal["tf_idf", "count", "multi_hot"]


@final
class BagOfWords(Feature):
    """A column of texts as numbers, `(rows, words)`: one for each word of a fixed vocabulary, unknown words first.

    For layers that take numbers; `Text` gives the same words as ids, for embeddings, and needs no rectangle. The
    vocabulary does not grow, so that the input of a model keeps its width: words that come later count as unknown.

    Args:
        max_tokens: numbers in a row at most, that of unknown words included; the most frequent words are kept. A row
            takes 4 bytes times as many.
        output: "tf_idf", see `weights` of `Text`; "count", how often a word is in the text; or "multi_hot", 1 where it
            is.
        standardize: what is cleaned, see `Text`.
        ngrams: neighbouring words taken as one, see `Text`.
        nulls: "error" refuses nulls, "unknown" makes them empty, which is all zeros.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `max_tokens` below 2, a length of n-grams below 1, or an unknown name.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"title": ["Toy Story", "Toy Story 2", "Heat"]})
        >>> space = rr.FeatureSpace({"title": rr.features.BagOfWords(3, output="count")}).fit(films)
        >>> space["title"].vocabulary.keys.to_list()
        ['toy', 'story']
        >>> space.transform(films)["title"]
        tensor([[0., 1., 1.],
                [1., 1., 1.],
                [1., 0., 0.]])

    Source: `TextVectorization` of Keras with the same `output_mode`.
    """

    emits: ClassVar[Emits] = "numbers"

    def __init__(
        self,
        max_tokens: int,
        output: Output = "tf_idf",
        *,
        standardize: Standardize | None = "lower_and_strip_punctuation",
        ngrams: int | list[int] | tuple[int, ...] | None = None,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        super().__init__(column)
        check_count(0 if max_tokens is None else max_tokens, "max_tokens", "BagOfWords", least=2)
        if output not in get_args(Output):
            raise ConfigError(f"output in {list(get_args(Output))}", repr(output), "BagOfWords")
        self.output, self.nulls = output, nulls
        self._text = Text(
            max_tokens=max_tokens + 1,  # and padding
            standardize=standardize,
            ngrams=ngrams,
            weights="tf_idf" if output == "tf_idf" else None,
            nulls=nulls,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The words; that of id 2 is the second number of a row, after unknown words."""
        return self._text.vocabulary

    def summarize(self, values: pl.Series) -> Summary:
        """Count the words of a part; see `Feature.summarize`."""
        return self._text.summarize(values)

    def learn(self, summary: Summary, *, where: str) -> None:
        """Keep the frequent words; see `Feature.learn`."""
        self._text = copy.copy(self._text)  # which the space that this one was copied from has, too
        self._text.learn(summary, where=where)

    def transform(self, values: pl.Series, name: str) -> Tensor:
        """Turn texts into `(rows, words)` float32; see `Feature.transform`."""
        words = self._text.transform(values, name)
        places = (words.row_index(), words.values - UNKNOWN_ID)
        numbers = torch.zeros(len(words), self.vocabulary.num_ids - UNKNOWN_ID)
        amounts = torch.ones(len(words.values)) if words.weights is None else words.weights
        return numbers.index_put(places, amounts, accumulate=self.output == "count")

    def schema(self, name: str) -> ColumnSchema:
        """Describe the numbers; see `Feature.schema`."""
        return ColumnSchema(name, "number", width=self.vocabulary.num_ids - UNKNOWN_ID)

    def state(self) -> State:
        """Return the words, and their weights; see `Feature.state`."""
        return self._text.state()

    def load_state(self, state: State, *, where: str) -> None:
        """Take over the words, and their weights; see `Feature.load_state`."""
        self._text = copy.copy(self._text)
        self._text.load_state(state, where=where)
