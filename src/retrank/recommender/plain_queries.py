"""Queries that bring nothing but their key: looked up without a column each, and joined in one go."""

from collections.abc import Sequence
from typing import NamedTuple, final

import polars as pl
import torch

from retrank.data.keys import as_key
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.request import Key, Request

__all__ = ["PlainQuery", "join_plain", "plain_query"]


@final
class PlainQuery(NamedTuple):
    """A query that brings nothing but its key.

    Attributes:
        key: its key.
        place: among the known queries, -1 if it is none.
        event: its place among the queries of the event log, -1 if it has no events.
    """

    key: Key
    place: int
    event: int


def plain_query(parts: AnyParts, request: Request) -> PlainQuery | None:
    """Look up a query if it brings nothing but its key.

    Args:
        parts: the recommender.
        request: of the query.

    Returns:
        The query, or None for one that brings features or a history, or lacks its key.

    Raises:
        DataError: a key of another type.
    """
    queries = parts.queries
    if len(request.query) != 1 or queries.query not in request.query or request.history is not None:
        return None
    key = as_key(request.query[queries.query], queries.key_type, f"column '{queries.query}' of the query")
    return PlainQuery(key, queries.index.place(key), parts.history.events.queries.place(key))


def join_plain(parts: AnyParts, queries: Sequence[PlainQuery], rows: Sequence[int] | None = None) -> AskedQueries:
    """Put queries together.

    Args:
        parts: the recommender.
        queries: at least one.
        rows: what each is called in messages; None for a single query.

    Returns:
        What `ask_one` makes of each.
    """
    keys, places, events = zip(*queries, strict=True)
    column = pl.Series(parts.queries.query, keys, dtype=parts.queries.index.dtype)
    return AskedQueries(column, torch.tensor(places), torch.tensor(events), {}, rows)
