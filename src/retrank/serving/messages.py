"""What the service is sent and what it answers, as strict types: an unknown field or another type is refused."""

from typing import Annotated, Final, TypeAlias, final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

__all__ = [
    "Accepted",
    "BatchAnswer",
    "BatchRequest",
    "BoostRule",
    "ErrorAnswer",
    "ErrorDetails",
    "EventMessage",
    "EventsRequest",
    "ExplorationRule",
    "Key",
    "ListAnswer",
    "ListItem",
    "Query",
    "RankAnswer",
    "RankRequest",
    "RecommendRequest",
    "RerankRules",
    "SessionRequest",
    "SimilarAnswer",
    "SimilarRequest",
    "Value",
]

Key: TypeAlias = str | int | bool
"""A raw key of a query or candidate."""
Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | list[Scalar]
"""The value of a feature."""
Query: TypeAlias = Key | dict[str, Value]
"""A query's key, or its key and features by column name."""

_K = Annotated[int, Meta(ge=1, description="The length of the list; shorter where fewer candidates are allowed.")]
_KEYS: Final = "Keys of candidates."
_WHERE = Annotated[str, Meta(max_length=2_000, description="A condition on the columns of the catalogue, in SQL.")]


@final
class BoostRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Adds to the scores of the candidates for which a condition is true; see `rr.recommender.Boost`."""

    where: _WHERE
    by: float


@final
class ExplorationRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Lets chance fill a place; see `rr.recommender.Exploration`."""

    position: Annotated[int, Meta(ge=1)]
    probability: Annotated[float, Meta(ge=0, le=1)]
    seed: Annotated[int, Meta(ge=0)] | None = None


@final
class RerankRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Business rules; see `rr.recommender.Rerank`."""

    caps: dict[str, Annotated[int, Meta(ge=1)]] = {}
    diversity: Annotated[float, Meta(ge=0, le=1)] = 0.0
    boosts: Annotated[list[BoostRule], Meta(max_length=20)] = []
    exploration: ExplorationRule | None = None


class _ListRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rules of a list, whoever asks for it.

    Attributes:
        k: the length of the list.
        exclude_seen: leave out what the query interacted with, or has in its session.
        allow: the only candidates that may be recommended.
        deny: candidates that must not be recommended.
        where: a condition on the columns of the catalogue.
        rerank: business rules.
        details: whether the items come with their columns of the catalogue.
        explain: whether to say where each item comes from, and what the rules left out.
    """

    k: _K = 10
    exclude_seen: bool = True
    allow: list[Key] | None = None
    deny: list[Key] = []
    where: _WHERE | None = None
    rerank: RerankRules | None = None
    details: bool = False
    explain: bool = False


@final
class RecommendRequest(_ListRules, frozen=True, forbid_unknown_fields=True):
    """A query, and the rules of its list.

    Attributes:
        query: its key, or its key and its features that are new or have changed.
    """

    query: Query


@final
class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that are answered together, each as it would be alone."""

    requests: list[RecommendRequest]


@final
class SessionRequest(_ListRules, frozen=True, forbid_unknown_fields=True):
    """What an anonymous visitor has done so far, and the rules of the list.

    Attributes:
        history: candidates, the oldest first.
        features: other features of the visitor, by column name.
    """

    history: Annotated[list[Key], Meta(description=_KEYS)]
    features: dict[str, Value] = {}


@final
class RankRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A query, and candidates to put in order.

    Attributes:
        query: its key, or its key and its features that are new or have changed.
        candidates: their keys.
        details: whether the items come with their columns of the catalogue.
    """

    query: Query
    candidates: Annotated[list[Key], Meta(min_length=1, description=_KEYS)]
    details: bool = False


@final
class SimilarRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate, and the rules of the list of those that are most like it."""

    candidate: Key
    k: _K = 10
    allow: list[Key] | None = None
    deny: list[Key] = []
    where: _WHERE | None = None
    details: bool = False


@final
class EventMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a query did with a candidate.

    Attributes:
        query: the query's key.
        candidate: the candidate's key.
        type: what it did, one of the types that the service knows.
        id: makes it safe to send the event again: one with a known id changes nothing. Made up if there is none.
        time: seconds since 1970 or text in ISO 8601; now by default.
        value: e.g. a rating or an amount.
        list_id: of the list in which the candidate was shown.
    """

    query: Key
    candidate: Key
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    time: float | str | None = None
    value: float | None = None
    list_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


@final
class EventsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Events that are kept all or not at all."""

    events: Annotated[list[EventMessage], Meta(min_length=1)]


@final
class ListItem(Struct, frozen=True):
    """A candidate of a list."""

    key: Key
    score: float
    details: Raw | UnsetType = UNSET


@final
class ListAnswer(Struct, frozen=True):
    """A list, best first.

    Attributes:
        query: the key of the query; null for an anonymous visitor.
        list_id: to be sent with the events that the list leads to.
        stage: which stage gave the scores.
        items: the candidates.
        bundle: the version of the bundle that answered.
        degraded: what the answer had to do without, e.g. "store": events since then are missing.
        explanation: of the list as a whole, if it was asked for.
    """

    query: Key | None
    list_id: str
    stage: str
    items: list[ListItem]
    bundle: str
    degraded: list[str] | UnsetType = UNSET
    explanation: Raw | UnsetType = UNSET


@final
class ErrorDetails(Struct, frozen=True):
    """What was expected, what came instead, where, and what to do about it."""

    type: str
    message: str
    where: str | UnsetType = UNSET
    expected: str | UnsetType = UNSET
    got: str | UnsetType = UNSET
    fix: str | UnsetType = UNSET


@final
class ErrorAnswer(Struct, frozen=True):
    """Why a request was refused."""

    error: ErrorDetails
    request_id: str | UnsetType = UNSET


@final
class BatchAnswer(Struct, frozen=True):
    """A list or an error per request, in their order."""

    answers: list[Raw]


@final
class RankAnswer(Struct, frozen=True):
    """Candidates in order, best first, and the keys of the request that are no candidates or unavailable."""

    query: Key
    stage: str
    items: list[ListItem]
    unknown: list[Key]
    bundle: str
    degraded: list[str] | UnsetType = UNSET


@final
class SimilarAnswer(Struct, frozen=True):
    """The candidates that are most like one, best first."""

    candidate: Key
    items: list[ListItem]
    bundle: str


@final
class Accepted(Struct, frozen=True):
    """What became of events: how many are new, and how many were there already."""

    accepted: int
    duplicates: int
