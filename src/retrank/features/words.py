"""Texts as words and n-grams."""

from collections.abc import Sequence
from typing import Final, Literal, final, get_args

import numpy as np
import polars as pl

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError
from retrank.features.list_columns import Lists, flatten

__all__ = ["Standardize", "WordSplitter"]

Standardize = Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"]

_LOWER: Final = pl.first().str.to_lowercase()
_CLEANED: Final = {
    "lower_and_strip_punctuation": _LOWER.str.replace_all(r"[[:punct:]]", ""),
    "lower": _LOWER,
    "strip_punctuation": pl.first().str.replace_all(r"[[:punct:]]", ""),
    None: pl.first(),
}
_WORDS: Final = {  # far faster than \S+
    name: cleaned.str.replace_all(r"[\s--[ ]]", " ").str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    for name, cleaned in _CLEANED.items()
}


@final
class WordSplitter:
    """Cleans texts, splits them at white space, and joins neighbours to n-grams.

    Args:
        standardize: what is cleaned; None takes texts as they are.
        ngrams: n for the words and all n-grams up to n of them, or the lengths that are wanted, in this order; None for
            words alone.
        where: the feature, for messages.

    Raises:
        ConfigError: an unknown way to clean, or a length that is no integer of at least 1 or comes twice.
    """

    def __init__(
        self, standardize: Standardize | None, ngrams: int | list[int] | tuple[int, ...] | None, where: str
    ) -> None:
        if standardize is not None and standardize not in get_args(Standardize):
            expected = f"standardize in {[*get_args(Standardize), None]}"
            raise ConfigError(expected, repr(standardize), where, "None takes texts as they are")
        self._words = _WORDS[standardize]
        self._lengths = _lengths(ngrams, where)

    def split(self, texts: pl.Series, max_length: int | None) -> Lists:
        """Split texts.

        Args:
            texts: `(rows,)` strings; a null is as an empty one.
            max_length: a text keeps this many words and n-grams, the first; None keeps all.

        Returns:
            The words of each text; with n-grams, all of the first length, then all of the second, and so on.
        """
        cut = self._words if max_length is None or self._lengths != [1] else self._words.list.head(max_length)
        words = flatten(texts.to_frame().select(cut).to_series(), "unknown")
        if self._lengths == [1]:
            return words
        grams = _ngrams(words, self._lengths)
        return grams if max_length is None else _first(grams, max_length)


def _lengths(ngrams: int | list[int] | tuple[int, ...] | None, where: str) -> list[int]:
    if ngrams is None:
        return [1]
    if not isinstance(ngrams, list | tuple):
        check_count(ngrams, "ngrams", where)
        return list(range(1, ngrams + 1))
    for length in ngrams:
        check_count(length, "ngrams", where)
    if not ngrams or len(set(ngrams)) < len(ngrams) or None in ngrams:
        raise ConfigError("different lengths, at least one", f"ngrams={ngrams!r}", where)
    return list(ngrams)


def _ngrams(words: Lists, lengths: Sequence[int]) -> Lists:
    rows = np.repeat(np.arange(len(words.lengths)), words.lengths)
    words_left = np.cumsum(words.lengths)[rows] - np.arange(len(rows))  # from this one to the end of its text
    flat, grams, row_of = words.values.to_frame("word"), [], []
    for length in lengths:
        begins = words_left >= length
        joined = pl.concat_str([pl.col("word").shift(-step) for step in range(length)], separator=" ")
        grams.append(flat.select(joined).to_series().filter(pl.Series(begins)))
        row_of.append(rows[begins])
    of = np.concatenate(row_of)
    values = pl.concat(grams).gather(np.argsort(of, kind="stable")).rename(words.values.name)
    return Lists(values, np.bincount(of, minlength=len(words.lengths)))


def _first(lists: Lists, count: int) -> Lists:
    ends = np.cumsum(lists.lengths)
    places = np.arange(len(lists.values)) - np.repeat(ends - lists.lengths, lists.lengths)
    return Lists(lists.values.filter(pl.Series(places < count)), np.minimum(lists.lengths, count))
