"""Queries that ask, looked up and held to the types of training."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
import torch

from retrank.core.errors import DataError
from retrank.data.checks import require_columns, require_no_nulls
from retrank.data.keys import as_key, as_keys
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.reading_histories import history_keys
from retrank.recommender.request import Key
from retrank.recommender.typed_columns import as_trained, column_of

__all__ = ["ask_one", "ask_table", "named"]


def named(parts: AnyParts, query: Mapping[str, Any] | Key) -> Mapping[str, Any]:
    """Give a key that comes alone the name of its column.

    Args:
        parts: the recommender.
        query: a key, or what a request takes.
    """
    return {parts.queries.query: query} if isinstance(query, str | int | np.generic) else query


def ask_one(parts: AnyParts, query: Mapping[str, Any], history: Iterable[Key] | None = None) -> AskedQueries:
    """Look up one query.

    Args:
        parts: the recommender.
        query: its key, and feature values by column name; with a history, the key may be missing.
        history: what it has done, candidate keys, oldest first, in place of what the log says; None for the log.

    Raises:
        DataError: the key is missing or of another type, a column is unknown, a value is of another kind than in
            training, lists come without their weights, a key of the history is of another type, or a column says
            what the history says.
    """
    queries = parts.queries
    types = queries.column_types
    unknown = [name for name in query if name != queries.query and name not in types]
    if unknown:
        raise DataError(f"columns of {[queries.query, *types]}", str(unknown), "query", "fix the name or leave it out")
    if queries.query not in query and history is None:
        raise DataError(f"the key, as '{queries.query}'", f"the columns {list(query)}", "query")
    key = None
    if queries.query in query:
        key = as_key(query[queries.query], queries.key_type, f"column '{queries.query}' of the query")
    if len(query) > 1:
        parts.require_own_process("a query that brings features")
    said = None if history is None else history_keys(parts, history)
    twice = [name for name in queries.list_columns if query.get(name) is not None] if said is not None else []
    if twice:
        expected = f"a history, or the columns {twice} that are read from it, not both"
        raise DataError(expected, "both", "query", "leave one of them out")
    brought = {
        name: as_trained(column_of(name, value), types[name], "the query")
        for name, value in query.items()
        if name != queries.query and value is not None
    }
    log = parts.history.events
    asked = AskedQueries(
        pl.Series(queries.query, [key], dtype=queries.index.dtype),
        torch.tensor([-1 if key is None else queries.index.place(key)]),
        torch.tensor([-1 if key is None else log.queries.place(key)]),
        {name: column for name, column in brought.items() if not column.null_count()},
        None,
        said=said,
    )
    if asked.brought:
        queries.require_whole(asked)
    return asked


def ask_table(parts: AnyParts, table: pl.DataFrame) -> AskedQueries:
    """Look up many queries.

    Args:
        parts: the recommender.
        table: one row per query: its key, and feature columns; other columns are ignored.

    Raises:
        DataError: the key column is missing, holds nulls or is of another type, a column holds values of another
            kind than in training, or lists come without their weights.
    """
    parts.require_own_process("many queries at once")
    queries = parts.queries
    require_columns(table, [queries.query], "queries")
    require_no_nulls(table, [queries.query], "queries")
    keys = as_keys(table[queries.query], queries.key_type, "error")
    types = queries.column_types
    brought = {name: as_trained(table[name], types[name]) for name in table.columns if name in types}
    asked = AskedQueries(
        keys,
        torch.from_numpy(queries.index.find(keys)),
        torch.from_numpy(parts.history.events.queries.find(keys)),
        {name: column for name, column in brought.items() if column.null_count() < len(column)},
        range(len(keys)),
    )
    if asked.brought:
        queries.require_whole(asked)
    return asked
