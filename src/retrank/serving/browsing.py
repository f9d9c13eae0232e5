"""Looking around in what a recommender knows: queries by how their keys begin, candidates by what they are called."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

import polars as pl

from retrank.core.errors import DataError
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.path_keys import key_in_path

__all__ = ["find_candidates", "find_queries"]

_BLOCK: Final = 100_000  # rows that are looked at before asking whether enough is found


def find_queries(recommender: Recommender, prefix: str, limit: int) -> list[Key]:
    """List known queries, those of the bundle before those that came later.

    Args:
        recommender: which knows them.
        prefix: what their keys begin with, as text; the one that it is as a whole comes first.
        limit: at most so many.

    Returns:
        Distinct keys.
    """
    indexes = (recommender.queries.index, recommender.history.events.queries)
    found: dict[Key, None] = {}
    with suppress(DataError):  # of text that is no whole key, but may begin one
        key = key_in_path(recommender, prefix, "query")
        if any(index.place(key) >= 0 for index in indexes):
            found[key] = None
    for index in indexes:
        for place in islice(_places(index.keys, lambda text: text.str.starts_with(prefix)), limit):
            found[index.keys[place]] = None
    return list(found)[:limit]


def find_candidates(recommender: Recommender, column: str, search: str, limit: int) -> list[int]:
    """List candidates by a text that a column contains, in capital or small letters.

    Args:
        recommender: whose candidates.
        column: of the catalogue.
        search: what it contains.
        limit: at most so many.

    Returns:
        Rows of the catalogue, ascending.
    """
    wanted = search.lower()
    matches = _places(
        recommender.candidates[column], lambda text: text.str.to_lowercase().str.contains(wanted, literal=True)
    )
    return list(islice(matches, limit))


def _places(column: pl.Series, matches: Callable[[pl.Series], pl.Series]) -> Iterator[int]:
    """Yield the places of matching values, block by block, so that a common beginning of a million keys is cheap."""
    for first in range(0, len(column), _BLOCK):
        text = column.slice(first, _BLOCK).cast(pl.String)
        yield from (first + place for place in matches(text).fill_null(value=False).arg_true().to_list())
