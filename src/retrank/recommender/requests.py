"""Many requests, each with rules of its own: those that share rules are answered together."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import torch

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.recommender.answers import Answers, answer, rules_of
from retrank.recommender.asking import ask_one
from retrank.recommender.lists import table_of_lists
from retrank.recommender.parts import Parts
from retrank.recommender.query_features import AskedQueries
from retrank.recommender.request import Request
from retrank.recommender.rules import condition_text

__all__ = ["answer_requests"]


def answer_requests(parts: Parts, requests: Sequence[Request]) -> pl.DataFrame:
    """Recommend to the query of each request by its rules.

    Args:
        parts: the recommender.
        requests: in any order, with any rules.

    Returns:
        The query key, the candidate key, `rank`, `score` and `stage`, requests in their order, best first.

    Raises:
        DataError: not a request, or one that cannot be answered, with its place.
    """
    for place, request in enumerate(requests):
        if not isinstance(request, Request):
            raise DataError("a rr.recommender.Request", repr(request), f"request {place}")
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


def _at(place: int, parts: Parts, request: Request) -> AskedQueries:
    try:
        return ask_one(parts, request.query)
    except DataError as error:
        raise DataError(error.expected, error.got, f"request {place}: {error.where}", error.fix) from error


def _groups(requests: Sequence[Request]) -> list[list[int]]:
    """Return the places of requests that differ in their query and what they deny alone."""
    groups: dict[object, list[int]] = {}
    for place, request in enumerate(requests):
        where = None if request.where is None else condition_text(request.where) or place
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
