"""Short texts, such as titles, as lists of word ids."""

from typing import ClassVar, Final, final

import polars as pl

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.features.arguments import check_count
from retrank.features.categorical import VocabularyFeature
from retrank.features.keys import Nulls
from retrank.features.kinds import Emits
from retrank.features.lists import flatten

__all__ = ["Text"]

_WORDS: Final = pl.first().str.to_lowercase().str.replace_all(r"[[:punct:]]", "").str.extract_all(r"\S+")


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

    def _words(self, values: pl.Series, first_row: int, *, cut: bool) -> pl.Series:
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise DataError("texts", str(values.dtype), f"column '{values.name}'", "cast the column to strings")
        texts = values.cast(pl.String)
        if self.nulls == "error" and texts.null_count():
            row = first_row + int(texts.is_null().arg_max() or 0)
            where = f"column '{values.name}', row {row}"
            raise DataError("no nulls", "null", where, "fill it with \"\", or use nulls='unknown'")
        words = _WORDS if self.max_length is None or not cut else _WORDS.list.head(self.max_length)
        return texts.to_frame().select(words).to_series()

    def _keys(self, values: pl.Series, first_row: int) -> pl.Series:
        return flatten(self._words(values, first_row, cut=False), "unknown").values

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn texts into a `Jagged` of word ids; see `Feature.transform`."""
        vocabulary = self.vocabulary
        lists = flatten(self._words(values, 0, cut=True), "unknown")
        return lists.jagged(vocabulary.ids(lists.values))
