"""The smoke set of a bundle: requests of every kind, and what they were answered when the bundle was saved.

Whoever loads a bundle can ask them again: files may be whole and a recommender still not what it was, with other
versions of libraries, kernels for another processor, or a model whose class computes something else today.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import polars as pl
from typing_extensions import TypedDict

from retrank.core.errors import RetrankError, StorageError
from retrank.core.values import checked
from retrank.core.version import __version__
from retrank.recommender.answered_requests import answer_requests
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Key, Request

__all__ = ["SMOKE_FILE", "SmokeSet", "check_smoke_set", "smoke_set"]

SMOKE_FILE: Final = "smoke.json"
"""The file of a bundle."""
_TOLERANCE: Final = 1e-4  # of scores, relative to those above 1: other processors add up in another order
_NUM_QUERIES: Final = 5
_LONG: Final = 50


class _Entry(TypedDict):
    request: dict[str, Any]
    keys: list[str | int | bool]
    scores: list[float]


@final
class SmokeSet(TypedDict):
    """What the file holds: the version of retrank that answered, and requests with their answers."""

    retrank: str
    requests: list[_Entry]


def smoke_set(parts: AnyParts) -> SmokeSet:
    """Return requests with their answers, as JSON can have them.

    Args:
        parts: of the recommender that answers.
    """
    asked = [request for request in _requests(parts) if _is_plain(request)]
    answers = answer_requests(parts, [Request(**request) for request in asked])
    entries = [
        _Entry(request=request, keys=answer.keys, scores=answer.scores)
        for request, answer in zip(asked, answers, strict=True)
        if isinstance(answer, RankedList) and _is_plain(answer.scores)
    ]
    return SmokeSet(retrank=__version__, requests=entries)


def check_smoke_set(parts: AnyParts, content: Any, where: str) -> None:
    """Ask the requests again.

    Args:
        parts: of a recommender that was loaded.
        content: what `smoke_set` has returned.
        where: the file, for messages.

    Raises:
        StorageError: an answer is another, beyond what rounding explains.
    """
    found = checked(content, SmokeSet, where)
    entries = found["requests"]
    fix = f"restore the bundle, or make it again here; retrank {found['retrank']} saved it, this is {__version__}"
    try:
        requests = [Request(**entry["request"]) for entry in entries]
    except (RetrankError, TypeError) as error:
        raise StorageError("requests", str(error), where, "restore the bundle") from error
    for place, (entry, answer) in enumerate(zip(entries, answer_requests(parts, requests), strict=True)):
        expected = f"the list as when the bundle was saved, {entry['keys'][:3]}..."
        if isinstance(answer, RetrankError):
            raise StorageError(expected, str(answer), f"{where}, request {place}", fix) from answer
        if not _is_same(entry["keys"], entry["scores"], answer):
            got = f"{answer.keys[:3]}... with the scores {answer.scores[:3]}..., not {entry['scores'][:3]}..."
            raise StorageError(expected, got, f"{where}, request {place}", fix)


def _requests(parts: AnyParts) -> Iterator[dict[str, Any]]:
    """Yield arguments of requests: known and unknown queries, plain and with every kind of rule."""
    query, known = parts.queries.query, _spread(parts.queries.index.keys, _NUM_QUERIES)
    some = _spread(parts.candidates.table[parts.candidates.column], 20)
    stranger = _unknown(parts)
    for key in (*known, *stranger):
        yield {"query": {query: key}}
    for key in (*known[:1], *stranger):
        yield {"query": {query: key}, "k": _LONG, "exclude_seen": False}
        yield {"query": {query: key}, "allow": some}
        yield {"query": {query: key}, "deny": some}
        for where in _conditions(parts.candidates.table.drop(parts.candidates.column)):
            yield {"query": {query: key}, "where": where}
    table = parts.queries.stored_table
    for key, row in zip(stranger, table.head(1).iter_rows(named=True), strict=False):
        yield {"query": {**{name: value for name, value in row.items() if name != query}, query: key}}
    yield {"query": {}, "history": some[:3]}
    yield {"query": {}, "history": some[-1:], "exclude_seen": False}


def _spread(keys: pl.Series, count: int) -> list[Key]:
    """Return some keys from all over a column."""
    return keys[:: max(1, len(keys) // count)].head(count).to_list()


def _unknown(parts: AnyParts) -> list[Key]:
    """Return a key that no query has, if there is one."""
    kind, index = parts.queries.key_type, parts.queries.index
    if kind == "boolean":
        return []
    candidates = ("nobody" + "_" * n if kind == "string" else n for n in range(len(index) + 1))
    return [next(key for key in candidates if index.place(key) < 0)]


def _conditions(table: pl.DataFrame) -> Iterator[str]:
    """Yield a condition on a column of numbers and one on a column of text, if there are such columns."""
    for column in table:
        if column.dtype.is_integer() and column.null_count() < len(column):
            yield f"{_quoted(column.name)} >= {column.sort(nulls_last=True)[(len(column) - column.null_count()) // 2]}"
            break
    for column in table:
        if column.dtype == pl.String and column.null_count() < len(column):
            value = column.drop_nulls()[0].replace("'", "''")
            yield f"{_quoted(column.name)} = '{value}'"
            break


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_plain(value: Any) -> bool:
    """Tell whether JSON gives a value back as it was; dates, for one, it does not have."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _is_same(keys: Sequence[Key], scores: Sequence[float], answer: RankedList) -> bool:
    """Tell whether two lists are equal, but for rounding, which may also change the order of what is as good."""
    if len(keys) != len(answer.keys) or not all(map(_is_near, scores, answer.scores)):
        return False
    before = dict(zip(keys, scores, strict=True))
    last = scores[-1] if scores else 0.0  # what has come in at the end was as good as what was there
    pairs = zip(answer.keys, answer.scores, strict=True)
    return all(_is_near(before.get(key, last), score) for key, score in pairs)


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) <= _TOLERANCE * max(1.0, abs(one))
