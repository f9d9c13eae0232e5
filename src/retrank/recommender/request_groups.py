"""Requests that can be answered together, with one pass through the models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.recommender.answers import NO_ROWS, Answers, Rules, answer, rules_of
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.asking import ask_one
from retrank.recommender.baseline_parts import AnyParts, BaselineParts
from retrank.recommender.brought_histories import BroughtHistories
from retrank.recommender.conditions import condition
from retrank.recommender.plain_queries import PlainQuery, join_plain, plain_query
from retrank.recommender.reading_histories import read_histories
from retrank.recommender.request import Request
from retrank.recommender.reranking import Wanted, answer_reranked, depth_of, identity_of, require_rerank
from retrank.recommender.rules import condition_text

__all__ = ["AskedRequest", "answer_group", "groups", "joined", "look_up"]

_SHORT: Final = 128
_MOST_CANDIDATES: Final = 100_000  # of more, a mask for each query costs more than it saves


@final
class AskedRequest(NamedTuple):
    """A request, looked up.

    Attributes:
        request: as it came.
        query: its query, in short if it brings nothing but its key.
        rules: of its list.
    """

    request: Request
    query: AskedQueries | PlainQuery
    rules: Rules


def look_up(parts: AnyParts, request: Request) -> AskedRequest:
    """Look up a request.

    Args:
        parts: the recommender.
        request: the query and its rules.

    Raises:
        ConfigError: business rules that this recommender cannot follow.
        DataError: a query or a rule that cannot be applied.
    """
    query = plain_query(parts, request) or ask_one(parts, request.query, request.history)
    if request.rerank is not None:
        require_rerank(parts, request.rerank)
    return AskedRequest(request, query, rules_of(parts, request))


def groups(parts: AnyParts, requests: Mapping[int, AskedRequest]) -> list[list[int]]:
    """Tell which requests can be answered together.

    Args:
        parts: the recommender.
        requests: by their place.

    Returns:
        Places, each in one group, and in a group the short queries first.
    """
    found: dict[object, tuple[list[int], list[int]]] = {}
    takes_own, alike_from = _takes_own_masks(parts), _alike_from(parts)
    for place, asked in requests.items():
        request, rules = asked.request, asked.rules
        depth = rules.k if request.rerank is None else depth_of(parts, rules.k, request.rerank)
        # Where lists of different lengths may go together, those of very different ones do not: all are made as long.
        deep = max(depth, alike_from) if alike_from is not None else max(depth - 1, _SHORT - 1).bit_length()
        is_restricted = rules.allowed is not rules.available
        restricted = is_restricted if takes_own else _restriction(request, place)
        plain, others = found.setdefault((deep, request.exclude_seen, restricted), ([], []))
        (plain if isinstance(asked.query, PlainQuery) else others).append(place)
    return [plain + others for plain, others in found.values()]


def answer_group(parts: AnyParts, group: Sequence[AskedRequest], rows: Sequence[int] | None) -> Answers:
    """Make the lists of requests of one group.

    Args:
        parts: the recommender.
        group: at least one.
        rows: what each is called in messages; None for a single one.

    Returns:
        A list per request, all as wide as the longest.

    Raises:
        DataError: a value that a feature refuses, or a model whose output is not finite.
    """
    asked = joined(parts, [asked.query for asked in group], rows)
    lengths = [asked.rules.k for asked in group]
    denied = [asked.rules.denied for asked in group]
    rules, masks = group[0].rules, [asked.rules.allowed for asked in group]
    if len(group) > 1:
        rules = replace(rules, k=max(lengths))
        if _takes_own_masks(parts) and any(mask is not masks[0] for mask in masks):
            rules = replace(rules, allowed=_stacked(masks))
        if any(one is not NO_ROWS for one in denied):
            rules = replace(rules, denied=Jagged.concat(denied))
    if any(asked.request.rerank is not None for asked in group):
        return answer_reranked(parts, asked, rules, [_wanted(asked) for asked in group])
    found = answer(parts, asked, rules)
    if min(lengths) == rules.k:
        return found
    beyond = torch.arange(rules.k) >= torch.tensor(lengths)[:, None]
    return found._replace(scores=found.scores.masked_fill(beyond, -torch.inf), rows=found.rows.masked_fill(beyond, -1))


def _takes_own_masks(parts: AnyParts) -> bool:
    """Whether queries that differ in what they allow are answered together at less cost than apart."""
    is_exact = isinstance(parts, BaselineParts) or parts.index.is_exact
    return is_exact and len(parts.candidates) <= _MOST_CANDIDATES


def _restriction(request: Request, place: int) -> object:
    """Return what requests that allow the same have in common."""
    where = None if request.where is None else condition_text(condition(request.where, "where")) or place
    return where, id(request.allow) if isinstance(request.allow, pl.Series) else request.allow


def _stacked(masks: Sequence[Tensor | None]) -> Tensor | None:
    given = [mask for mask in masks if mask is not None]
    return torch.stack(given) if len(given) == len(masks) else None


def _wanted(asked: AskedRequest) -> Wanted:
    request = asked.request
    key = asked.query.key if isinstance(asked.query, PlainQuery) else asked.query.keys[0]
    return Wanted(asked.rules.k, request.rerank, identity_of(key, request.history))


def _alike_from(parts: AnyParts) -> int | None:
    """Return up to which length lists are looked for alike; None if each is the beginning of any longer one."""
    if isinstance(parts, BaselineParts):
        return None
    if parts.ranking is not None:
        return parts.num_retrieved
    return None if parts.index.is_exact else 0


def joined(
    parts: AnyParts, queries: Sequence[AskedQueries | PlainQuery], rows: Sequence[int] | None = None
) -> AskedQueries:
    """Put queries together.

    Args:
        parts: the recommender.
        queries: at least one, the short ones first.
        rows: what each is called in messages; None for a single one.
    """
    plain = [query for query in queries if isinstance(query, PlainQuery)]
    if len(plain) == len(queries):
        return join_plain(parts, plain, rows)
    others = [query for query in queries if isinstance(query, AskedQueries)]
    if len(queries) == 1:
        one = others[0]
        return one if one.said is None else replace(one, histories=read_histories(parts, [one.said]), said=None)
    return _concat(parts, [join_plain(parts, plain), *others] if plain else others, rows)


def _concat(parts: AnyParts, asked: Sequence[AskedQueries], rows: Sequence[int] | None) -> AskedQueries:
    names = dict.fromkeys(name for one in asked for name in one.brought)
    return AskedQueries(
        pl.concat([one.keys for one in asked]),
        torch.cat([one.places for one in asked]),
        torch.cat([one.events for one in asked]),
        {name: _column([one.brought.get(name) for one in asked], [len(one) for one in asked]) for name in names},
        rows,
        _histories(parts, asked),
    )


def _histories(parts: AnyParts, asked: Sequence[AskedQueries]) -> BroughtHistories | None:
    if all(one.said is None for one in asked):
        return None
    return read_histories(parts, [said for one in asked for said in [one.said] * len(one)])


def _column(values: Sequence[pl.Series | None], lengths: Sequence[int]) -> pl.Series:
    """Put values of one column one after another, with null where there is none."""
    given = next(value for value in values if value is not None)
    parts = [
        (given.clear(length) if value is None else value).to_frame()
        for value, length in zip(values, lengths, strict=True)
    ]
    return pl.concat(parts, how="vertical_relaxed").to_series()
