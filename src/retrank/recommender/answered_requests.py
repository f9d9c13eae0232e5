"""Requests of a service, answered together, with an error in the place of each that cannot be."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from retrank.core.errors import DataError, RetrankError
from retrank.recommender.answers import Answers
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.lists import stage_of
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Request
from retrank.recommender.request_groups import AskedRequest, answer_group, groups, look_up

__all__ = ["answer_requests"]

Value = TypeVar("Value")


def answer_requests(parts: AnyParts, requests: Sequence[Request]) -> list[RankedList | RetrankError]:
    """Answer requests; see `Recommender.answer`.

    Args:
        parts: the recommender.
        requests: each with rules of its own.

    Returns:
        A list or an error per request.
    """
    looked_up = [_or_error(partial(_look_up, parts, request)) for request in requests]
    found: list[AskedRequest | RankedList | RetrankError] = [*looked_up]
    asked = {place: one for place, one in enumerate(looked_up) if isinstance(one, AskedRequest)}
    for group in groups(parts, asked):
        for place, result in zip(group, _answered(parts, [asked[place] for place in group]), strict=True):
            found[place] = result
    return [one for one in found if not isinstance(one, AskedRequest)]


def _answered(parts: AnyParts, group: Sequence[AskedRequest]) -> Sequence[RankedList | RetrankError]:
    """Answer requests of one group; where one of them is refused, each on its own."""
    lists = _or_error(lambda: _ranked_lists(parts, answer_group(parts, group, None)))
    if not isinstance(lists, RetrankError):
        return lists
    return [lists] if len(group) == 1 else [_answered(parts, [one])[0] for one in group]


def _look_up(parts: AnyParts, request: object) -> AskedRequest:
    if not isinstance(request, Request):
        raise DataError("a rr.recommender.Request", repr(request), "request")
    return look_up(parts, request)


def _or_error(make: Callable[[], Value]) -> Value | RetrankError:
    try:
        return make()
    except RetrankError as error:
        return error


def _ranked_lists(parts: AnyParts, answers: Answers) -> list[RankedList]:
    all_rows = answers.rows
    keys = parts.candidates.catalogue.keys[all_rows.numpy()].tolist()  # of missing places, any key
    there = zip(keys, answers.scores.tolist(), all_rows.tolist(), answers.origins.tolist(), strict=True)
    lengths = (all_rows >= 0).sum(dim=1).tolist()  # missing places are at the end
    certain = [1.0] * all_rows.shape[1]
    probabilities = [certain] * len(lengths) if answers.probabilities is None else answers.probabilities.tolist()
    return [
        RankedList(of_keys[:length], scores[:length], rows[:length], stage_of(parts, origin), of_places[:length])
        for length, of_places, (of_keys, scores, rows, origin) in zip(lengths, probabilities, there, strict=True)
    ]
