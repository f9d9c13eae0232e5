"""From messages to requests of a recommender, and from its lists to bytes."""

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import msgspec
import polars as pl
from msgspec import UNSET

from retrank.core.errors import ConfigError, DataError
from retrank.core.plain_json import to_json
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Key, Request
from retrank.recommender.rerank import Boost, Exploration, Rerank
from retrank.serving.details import Details
from retrank.serving.json_values import from_json
from retrank.serving.live import Live
from retrank.serving.messages import (
    ExplorationRule,
    ListAnswer,
    ListItem,
    Query,
    RecommendRequest,
    RerankRules,
    SessionRequest,
)
from retrank.serving.settings import Limits
from retrank.serving.stores.records import Impression

__all__ = ["ListAsk", "ListWriter", "items_of", "key_and_features"]

_encode: Final = msgspec.json.Encoder().encode
_TEMPORAL: Final = (pl.Date, pl.Datetime)


@final
@dataclass(frozen=True, slots=True)
class ListAsk:
    """A list that is asked for.

    Args:
        message: what was sent.
        limits: of what may be asked for.
    """

    message: RecommendRequest | SessionRequest
    limits: Limits

    def __post_init__(self) -> None:
        message, limits = self.message, self.limits
        if message.k > limits.k:
            raise ConfigError(f"k of at most {limits.k}", str(message.k), "k")
        lists = {"allow": message.allow or (), "deny": message.deny}
        if isinstance(message, SessionRequest):
            lists["history"] = message.history
        for name, keys in lists.items():
            if len(keys) > limits.keys:
                raise ConfigError(f"at most {limits.keys} keys", str(len(keys)), name)

    def request(self, live: Live) -> tuple[Key | None, Request]:
        """Return who asks, and the request to a recommender.

        Args:
            live: the recommender and what it knows of the query.

        Raises:
            DataError: a query without its key, or a value of another type.
            ConfigError: a rule that cannot be applied.
        """
        message = self.message
        key: Key | None
        hidden: Sequence[Key]
        history: Sequence[Key] | None
        if isinstance(message, SessionRequest):
            key, history = None, tuple(message.history)
            query, hidden = typed(message.features, live), ()
        else:
            key, features = key_and_features(message.query, live)
            query, hidden, history = live.query(key, features), live.hidden(key), None
        return key, Request(
            query,
            message.k,
            exclude_seen=message.exclude_seen,
            where=message.where,
            allow=message.allow,
            deny=[*message.deny, *hidden] if hidden else message.deny,
            rerank=None if message.rerank is None else _rerank(message.rerank),
            history=history,
        )


def key_and_features(query: Query, live: Live) -> tuple[Key, Mapping[str, Any]]:
    """Take a query apart.

    Args:
        query: as it was sent.
        live: the recommender.

    Raises:
        DataError: it lacks its key, or text that is no date where a column has dates.
    """
    if not isinstance(query, dict):
        return query, {}
    name = live.recommender.query
    key = query.get(name)
    if not isinstance(key, str | int):
        raise DataError(f"the key of the query, as '{name}'", "a query without it", "query", f'send {{"{name}": ...}}')
    return key, typed({column: value for column, value in query.items() if column != name}, live)


def typed(features: Mapping[str, Any], live: Live) -> Mapping[str, Any]:
    """Return features with dates and times where the columns have them.

    Args:
        features: by column name, as they were sent.
        live: the recommender.

    Raises:
        DataError: text that is no date or time.
    """
    if not features:
        return features
    types = live.recommender.queries.column_types
    return {
        name: from_json(value, types[name], f"column '{name}' of the query") if name in types else value
        for name, value in features.items()
    }


def items_of(found: RankedList, details: Details | None) -> list[ListItem]:
    """Return a list as messages.

    Args:
        found: the list.
        details: where the columns of its candidates are; None to leave them out.
    """
    if details is None:
        return list(map(ListItem, found.keys, found.scores))
    return [
        ListItem(key, score, details.of(row))
        for key, score, row in zip(found.keys, found.scores, found.rows, strict=True)
    ]


@final
class ListWriter:
    """Writes lists, each with an id that no other list has, and remembers what was shown.

    Args:
        version: of the bundle.
        remembers: whether impressions are made.
    """

    def __init__(self, version: str, *, remembers: bool) -> None:
        self.version, self._remembers = version, remembers
        self._ids = _list_ids()

    def write(
        self,
        key: Key | None,
        found: RankedList,
        details: Details | None,
        *,
        degraded: Sequence[str],
        explanation: Mapping[str, Any] | None = None,
    ) -> tuple[bytes, Impression | None]:
        """Return a list as bytes of JSON, and as it is kept.

        Args:
            key: of the query; None for a visitor without one.
            found: the list.
            details: where the columns of its candidates are; None to leave them out.
            degraded: what the list had to do without.
            explanation: of the list.
        """
        list_id = next(self._ids)
        answer = ListAnswer(
            key,
            list_id,
            found.stage,
            items_of(found, details),
            self.version,
            list(degraded) or UNSET,
            UNSET if explanation is None else msgspec.Raw(_encode(to_json(dict(explanation)))),
        )
        if not self._remembers:
            return _encode(answer), None
        shown = Impression(
            list_id=list_id,
            query=key,
            time=time.time_ns() // 1_000,
            keys=tuple(found.keys),
            scores=tuple(found.scores),
            probabilities=tuple(found.probabilities or (1.0,) * len(found.keys)),
            bundle=self.version,
        )
        return _encode(answer), shown


def _list_ids() -> Iterator[str]:
    """Yield ids: random for the process, counted within it."""
    start = secrets.token_hex(8)
    return (f"{start}-{number:x}" for number in itertools.count())


def _rerank(rules: RerankRules) -> Rerank:
    return Rerank(
        caps=rules.caps,
        diversity=rules.diversity,
        boosts=[Boost(where=boost.where, by=boost.by) for boost in rules.boosts],
        exploration=None if rules.exploration is None else _exploration(rules.exploration),
    )


def _exploration(rule: ExplorationRule) -> Exploration:
    """Return the rule with a seed, so that a list and its explanation draw alike."""
    seed = secrets.randbits(32) if rule.seed is None else rule.seed
    return Exploration(position=rule.position, probability=rule.probability, seed=seed)
