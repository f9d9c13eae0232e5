"""What a store holds: events, documents and impressions. Each value is checked when it is made."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

from retrank.core.errors import DataError
from retrank.recommender.request import Key

__all__ = ["Change", "Document", "Event", "Impression", "Kind"]

Kind: TypeAlias = Literal["candidate", "query"]
"""What a document describes."""


@final
@dataclass(frozen=True, slots=True)
class Event:
    """Something that a query did with a candidate.

    Args:
        id: unique; a store keeps the first event of an id, and any later one with this id changes nothing.
        query: the key of the query.
        candidate: the key of the candidate.
        type: what happened, e.g. `"view"`, `"click"`, `"like"` or `"hide"`.
        time: when, in microseconds since 1970 UTC.
        value: how much, e.g. a rating or a price; None where the type says it all.
        list_id: the list (`Impression.list_id`) in which the candidate was shown; None if it was in none.

    Raises:
        DataError: a field is of another type or out of range.

    Example:
        >>> import retrank as rr
        >>> rr.serving.stores.Event("e1", query=42, candidate="a", type="like", time=0).value is None
        True
        >>> rr.serving.stores.Event("e1", query=4.2, candidate="a", type="like", time=0)
        Traceback (most recent call last):
        retrank.core.errors.DataError: event 'query': expected a string, an integer or a boolean, got 4.2 (float)
    """

    id: str
    query: Key
    candidate: Key
    type: str
    time: int
    value: float | None = None
    list_id: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.id, "event 'id'")
        _check_key(self.query, "event 'query'")
        _check_key(self.candidate, "event 'candidate'")
        _check_name(self.type, "event 'type'")
        _check_integer(self.time, "event 'time'")
        if self.value is not None:
            object.__setattr__(self, "value", _as_float(self.value, "event 'value'"))
        if self.list_id is not None:
            _check_name(self.list_id, "event 'list_id'")


@final
@dataclass(frozen=True, slots=True)
class Document:
    """What a service was told about a candidate or a query: its features, and whether it is available.

    Args:
        kind: `"candidate"` or `"query"`.
        key: of the candidate or query.
        content: JSON, which the store does not read; None says that it was deleted.

    Raises:
        DataError: a field is of another type or out of range.
    """

    kind: Kind
    key: Key
    content: bytes | None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise _wrong("'candidate' or 'query'", self.kind, "document 'kind'")
        _check_key(self.key, "document 'key'")
        if self.content is not None and type(self.content) is not bytes:
            raise _wrong("bytes or None", self.content, "document 'content'")


@final
@dataclass(frozen=True, slots=True)
class Change:
    """One step in the history of a store.

    Args:
        position: its place; positions ascend, though not always by one.
        item: what was written.
    """

    position: int
    item: Event | Document


@final
@dataclass(frozen=True, slots=True)
class Impression:
    """A list that was shown.

    Args:
        list_id: names the list; events refer to it.
        query: the key of the query; None if it was anonymous.
        time: when, in microseconds since 1970 UTC.
        keys: the candidates, from the top of the list to its end.
        scores: of each candidate.
        probabilities: with which each candidate came to its place (1 without exploration).
        bundle: the version of the bundle that made the list.

    Raises:
        DataError: a field is of another type or out of range, or lists of unequal lengths.
    """

    list_id: str
    query: Key | None
    time: int
    keys: tuple[Key, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    bundle: str

    def __post_init__(self) -> None:
        _check_name(self.list_id, "impression 'list_id'")
        if self.query is not None:
            _check_key(self.query, "impression 'query'")
        _check_integer(self.time, "impression 'time'")
        for key in self.keys:
            _check_key(key, "impression 'keys'")
        if not all(type(number) is float for number in (*self.scores, *self.probabilities)):
            raise _wrong("floats", (self.scores, self.probabilities), "impression 'scores' and 'probabilities'")
        if not len(self.keys) == len(self.scores) == len(self.probabilities):
            lengths = f"{len(self.keys)}, {len(self.scores)} and {len(self.probabilities)}"
            raise DataError("as many scores and probabilities as keys", lengths, f"impression '{self.list_id}'")
        _check_name(self.bundle, "impression 'bundle'")


def _check_key(value: Any, where: str) -> None:
    # The type itself, not a kind of it: a store gives back the same type, and NumPy's str_ or an IntEnum would not be.
    if type(value) is str:
        _check_text(value, where)
    elif type(value) is int:
        _check_integer(value, where)
    elif type(value) is not bool:
        raise _wrong("a string, an integer or a boolean", value, where)


def _check_name(value: Any, where: str) -> None:
    if type(value) is not str or not value or "\0" in value:
        raise _wrong("a text that is not empty and has no NUL", value, where)
    _check_text(value, where)


def _check_text(value: str, where: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong("text without lone surrogates", value, where) from None


def _check_integer(value: Any, where: str) -> None:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _wrong("an integer of 64 bits", value, where)


def _as_float(value: Any, where: str) -> float:
    # An integer that a float does not hold exactly is refused, 10**400 too, which isfinite cannot take.
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) <= 2**53:
        return float(value)
    raise _wrong("a finite number that a float can hold", value, where)


def _wrong(expected: str, value: Any, where: str) -> DataError:
    got = repr(value)
    return DataError(expected, f"{got if len(got) <= 80 else got[:77] + '...'} ({type(value).__name__})", where)
