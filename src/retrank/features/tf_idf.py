"""How much a word says of a text: often in this text, rare in others."""

from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from retrank.core.errors import StorageError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.data.key_index import KeyIndex
from retrank.features.counting import count_keys
from retrank.features.list_columns import Lists
from retrank.features.state import State
from retrank.features.statistics import KeyCounts, Summary
from retrank.features.vocabulary import Vocabulary

__all__ = ["InverseFrequencies", "TextCounts"]

Floats = npt.NDArray[np.float64]

_FRAME: Final = "inverse_frequencies"
_COLUMN: Final = "weight"


@final
@dataclass(frozen=True, eq=False)
class TextCounts(Summary):
    """How often each word occurs, and in how many texts.

    Args:
        words: occurrences of each word.
        texts: texts that have each word.
        num_texts: how many texts, empty ones counted.
    """

    words: KeyCounts
    texts: KeyCounts
    num_texts: int

    @classmethod
    def of(cls, words: Lists, times: npt.NDArray[np.int64]) -> Self:
        """Count the words of some texts.

        Args:
            words: of each text.
            times: `(texts,)` how often each text is there.

        Returns:
            Their counts.
        """
        rows = np.repeat(np.arange(len(times)), words.lengths)
        pairs = pl.DataFrame({"row": rows, "key": words.values, "times": times[rows]})
        distinct = pairs.unique(["row", "key"])
        occurrences, texts = count_keys(pairs["key"], pairs["times"]), count_keys(distinct["key"], distinct["times"])
        return cls(KeyCounts(occurrences), KeyCounts(texts), int(times.sum()))

    def merge(self, other: Self) -> Self:
        """Add up.

        Args:
            other: the counts of other texts.
        """
        return type(self)(
            self.words.merge(other.words), self.texts.merge(other.texts), self.num_texts + other.num_texts
        )


@final
@dataclass(frozen=True, eq=False)
class InverseFrequencies:
    """`log(1 + N / (1 + n))` for every word that n of N texts have; for all unknown words the mean of these.

    Args:
        of_ids: `(num_ids,)` by id; 0 for padding.
        num_texts: N.

    Source: `TextVectorization(output_mode="tf_idf")` of Keras.
    """

    of_ids: Floats
    num_texts: int

    @classmethod
    def learned(cls, vocabulary: Vocabulary, counts: TextCounts) -> Self:
        """Compute them.

        Args:
            vocabulary: the words.
            counts: of the texts that it was learned from.
        """
        known = _inverse(vocabulary.keys, counts, counts.num_texts)
        return cls(np.concatenate([[0.0, known.mean()], known]), counts.num_texts)

    def grown(self, vocabulary: Vocabulary, counts: TextCounts) -> Self:
        """Add those of new words; all others stay, as models have learned to read them.

        Args:
            vocabulary: the grown one.
            counts: of the new texts. A new word was in none of the earlier ones, as far as anybody knows, so n counts
                new texts and N all.
        """
        num_texts = self.num_texts + counts.num_texts
        added = _inverse(vocabulary.keys[len(self.of_ids) - NUM_SPECIAL_IDS :], counts, num_texts)
        return type(self)(np.concatenate([self.of_ids, added]), num_texts)

    def weigh(self, words: Jagged) -> Jagged:
        """Weigh the words of texts.

        Args:
            words: lists of ids, with repeats.

        Returns:
            The distinct ids of each list in the order in which they come first, each with the weight
            `count in this list * inverse frequency`.
        """
        rows, ids = words.row_index().numpy(), words.values.numpy()
        _, first, counts = np.unique(rows * len(self.of_ids) + ids, return_index=True, return_counts=True)
        order = np.argsort(first)
        kept = first[order]
        weights = (counts[order] * self.of_ids[ids[kept]]).astype(np.float32)
        lengths = torch.from_numpy(np.bincount(rows[kept], minlength=len(words)))
        return Jagged.from_lengths(torch.from_numpy(ids[kept]), lengths, torch.from_numpy(weights))

    def state(self) -> State:
        """Return them, to be saved."""
        return State({"num_texts": self.num_texts}, {_FRAME: pl.DataFrame({_COLUMN: self.of_ids})})

    @classmethod
    def from_state(cls, state: State, num_ids: int, where: str) -> Self:
        """Rebuild from what `state` returned.

        Args:
            state: of a feature with these.
            num_ids: of its vocabulary.
            where: the feature, for messages.

        Raises:
            StorageError: something is missing or does not fit.
        """
        num_texts: Any = state.values.get("num_texts")
        frame = state.frames.get(_FRAME, pl.DataFrame())
        if type(num_texts) is not int or num_texts < 1:
            raise StorageError("a number of texts", repr(num_texts), where, "restore the file")
        is_column = frame.schema == {_COLUMN: pl.Float64} and len(frame) == num_ids and not frame[_COLUMN].null_count()
        weights = frame[_COLUMN].to_numpy() if is_column else np.full(1, np.nan)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            got = f"{len(frame)} rows of {dict(frame.schema)}"
            raise StorageError(f"a finite weight of at least 0 for each of {num_ids} ids", got, where)
        return cls(weights, num_texts)


def _inverse(words: pl.Series, counts: TextCounts, num_texts: int) -> Floats:
    places = KeyIndex(counts.texts.frame["key"]).find(words)
    having = counts.texts.frame["count"].to_numpy()[places]
    inverse: Floats = np.log1p(num_texts / (1 + having))
    return inverse
