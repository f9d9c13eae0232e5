"""Many queries at once: rows of a table, keys, or requests, of which those that share rules are answered together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.data.keys import as_key
from retrank.data.sources import TableLike, frame, is_pandas, like
from retrank.recommender.answers import Answers, answer, rules_of
from retrank.recommender.asking import ask_one, ask_table
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.conditions import condition
from retrank.recommender.lists import table_of_lists
from retrank.recommender.query_features import AskedQueries
from retrank.recommender.request import Key, Request
from retrank.recommender.rules import condition_text

__all__ = ["ManyQueries", "answer_many"]

ManyQueries = TableLike | Sequence["Request | Key"] | npt.NDArray[Any]
"""A table with a row per query, a list or column of their keys, or requests."""


def answer_many(parts: AnyParts, queries: ManyQueries, rules: Request) -> pl.DataFrame:
    """Recommend to many queries.

    Args:
        parts: the recommender.
        queries: rows, keys or requests.
        rules: of rows and keys; its query does not matter.

    Returns:
        The query key, the candidate key, `rank`, `score` and `stage`, queries in their order, best first; of
        pandas if `queries` is.

    Raises:
        DataError: a query that cannot be answered, with its place.
    """
    name, listed = parts.queries.query, _listed(queries)
    if isinstance(listed, pl.Series):
        table = listed.alias(name).to_frame()
    elif isinstance(listed, Sequence) and not isinstance(listed, str):
        if any(isinstance(query, Request) for query in listed):
            return _answer_requests(parts, cast("Sequence[Request]", listed))
        if any(isinstance(query, Mapping) for query in listed):
            raise DataError("keys, or a rr.recommender.Request each", "column names and values", "queries")
        kind = parts.queries.key_type
        keys = [as_key(key, kind, f"query {place}") for place, key in enumerate(listed)]
        table = pl.DataFrame({name: keys}, schema={name: parts.queries.index.dtype})
    else:
        table = frame(listed)
    asked = ask_table(parts, table)
    return like(queries, table_of_lists(parts, asked.keys, answer(parts, asked, rules_of(parts, rules))))


def _listed(queries: ManyQueries) -> Any:
    """Return a column of keys as a list, and anything else as it is."""
    is_column = isinstance(queries, np.ndarray) or (is_pandas(queries) and not hasattr(queries, "columns"))
    return queries.tolist() if is_column else queries  # type: ignore[union-attr]


def _answer_requests(parts: AnyParts, requests: Sequence[Request]) -> pl.DataFrame:
    for place, request in enumerate(requests):
        if not isinstance(request, Request):
            raise DataError("a rr.recommender.Request, as the others are", repr(request), f"request {place}")
    asked = [_at(place, parts, request) for place, request in enumerate(requests)]
    k = max((request.k for request in requests), default=1)
    k = min(k, len(parts.candidates))
    scores = torch.full((len(requests), k), -torch.inf)
    rows = torch.full((len(requests), k), -1)
    is_popular = torch.zeros(len(requests), dtype=torch.bool)
    for group in _groups(requests):
        rules = [rules_of(parts, requests[place]) for place in group]
        denied = Jagged.concat([one.denied for one in rules])
        found = answer(parts, _joined([asked[place] for place in group], group), replace(rules[0], denied=denied))
        places = torch.tensor(group)
        scores[places, : rules[0].k], rows[places, : rules[0].k], is_popular[places] = found
    keys = pl.concat([one.keys for one in asked]) if asked else parts.queries.stored_table[parts.queries.query].clear()
    return table_of_lists(parts, keys, Answers(scores, rows, is_popular))


def _at(place: int, parts: AnyParts, request: Request) -> AskedQueries:
    try:
        return ask_one(parts, request.query)
    except DataError as error:
        raise DataError(error.expected, error.got, f"request {place}: {error.where}", error.fix) from error


def _groups(requests: Sequence[Request]) -> list[list[int]]:
    """Return the places of requests that differ in their query and what they deny alone."""
    groups: dict[object, list[int]] = {}
    for place, request in enumerate(requests):
        where = None if request.where is None else condition_text(condition(request.where, "where")) or place
        allow = id(request.allow) if isinstance(request.allow, pl.Series) else request.allow
        groups.setdefault((request.k, request.exclude_seen, where, allow), []).append(place)
    return list(groups.values())


def _joined(asked: Sequence[AskedQueries], rows: Sequence[int]) -> AskedQueries:
    names = dict.fromkeys(name for one in asked for name in one.brought)
    return AskedQueries(
        pl.concat([one.keys for one in asked]),
        torch.cat([one.places for one in asked]),
        torch.cat([one.events for one in asked]),
        {name: _column([one.brought.get(name) for one in asked]) for name in names},
        rows,
    )


def _column(values: Sequence[pl.Series | None]) -> pl.Series:
    """Put values of one column one after another, with null where there is none."""
    given = next(value for value in values if value is not None)
    parts = [(given.clear(1) if value is None else value).to_frame() for value in values]
    return pl.concat(parts, how="vertical_relaxed").to_series()
