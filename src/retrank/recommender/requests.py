"""Many queries at once: rows of a table, keys, or requests, of which those that share rules are answered together."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from retrank.core.errors import ConfigError, DataError
from retrank.data.keys import as_key
from retrank.data.sources import TableLike, frame, is_pandas, like
from retrank.recommender.answers import Answers, answer, rules_of
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.asking import ask_table
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.lists import table_of_lists
from retrank.recommender.plain_queries import PlainQuery
from retrank.recommender.request import Key, Request
from retrank.recommender.request_groups import AskedRequest, answer_group, groups, look_up
from retrank.recommender.reranking import Wanted, answer_reranked, identity_of, require_rerank

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
    return like(queries, table_of_lists(parts, asked.keys, _answer_table(parts, asked, rules)))


def _answer_table(parts: AnyParts, asked: AskedQueries, request: Request) -> Answers:
    rules = rules_of(parts, request)
    if request.rerank is None:
        return answer(parts, asked, rules)
    require_rerank(parts, request.rerank)
    wanted = [Wanted(rules.k, request.rerank, identity_of(key)) for key in asked.keys]
    return answer_reranked(parts, asked, rules, wanted)


def _listed(queries: ManyQueries) -> Any:
    """Return a column of keys as a list, and anything else as it is."""
    is_column = isinstance(queries, np.ndarray) or (is_pandas(queries) and not hasattr(queries, "columns"))
    return queries.tolist() if is_column else queries  # type: ignore[union-attr]


def _answer_requests(parts: AnyParts, requests: Sequence[Request]) -> pl.DataFrame:
    for place, request in enumerate(requests):
        if not isinstance(request, Request):
            raise DataError("a rr.recommender.Request, as the others are", repr(request), f"request {place}")
    asked = {place: _at(place, parts, request) for place, request in enumerate(requests)}
    k = max((one.rules.k for one in asked.values()), default=1)
    scores = torch.full((len(requests), k), -torch.inf)
    rows = torch.full((len(requests), k), -1)
    origins = torch.zeros(len(requests), dtype=torch.int64)
    for group in groups(parts, asked):
        found, places = answer_group(parts, [asked[place] for place in group], group), torch.tensor(group)
        width = found.rows.shape[1]
        scores[places, :width], rows[places, :width], origins[places] = found[:3]
    keys = [one.query.key if isinstance(one.query, PlainQuery) else one.query.keys[0] for one in asked.values()]
    column = pl.Series(parts.queries.query, keys, dtype=parts.queries.index.dtype)
    return table_of_lists(parts, column, Answers(scores, rows, origins))


def _at(place: int, parts: AnyParts, request: Request) -> AskedRequest:
    try:
        return look_up(parts, request)
    except (ConfigError, DataError) as error:
        raise type(error)(error.expected, error.got, f"request {place}: {error.where}", error.fix) from error
