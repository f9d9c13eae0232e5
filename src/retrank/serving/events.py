"""Events that clients send, held to what the bundle knows."""

import secrets
import time
from collections.abc import Mapping, Sequence

from retrank.core.errors import DataError
from retrank.data.keys import as_key
from retrank.recommender.recommender import Recommender
from retrank.serving.event_times import microseconds
from retrank.serving.messages import EventMessage
from retrank.serving.settings import Effect
from retrank.serving.stores.records import Event

__all__ = ["checked_events"]


def checked_events(
    messages: Sequence[EventMessage], recommender: Recommender, types: Mapping[str, Effect]
) -> list[Event]:
    """Return events as they are kept.

    Candidates need not be in the catalogue, and queries need not be known: they may be soon.

    Args:
        messages: what was sent.
        recommender: whose keys they name.
        types: the types of events that are accepted.

    Returns:
        As many events, each with an id and a time.

    Raises:
        DataError: a key of another type, an unknown type of event or a bad time, with the place of the event.
    """
    now = time.time_ns() // 1_000
    query_type, candidate_type = recommender.queries.key_type, recommender.catalogue.key_type
    events = []
    for place, message in enumerate(messages):
        if message.type not in types:
            raise DataError(f"one of the types {sorted(types)}", repr(message.type), f"event {place}, type")
        try:
            when = now if message.time is None else microseconds(message.time)
        except DataError as error:
            raise DataError(error.expected, error.got, f"event {place}, time", error.fix) from error
        events.append(
            Event(
                id=secrets.token_hex(16) if message.id is None else message.id,
                query=as_key(message.query, query_type, f"event {place}, query"),
                candidate=as_key(message.candidate, candidate_type, f"event {place}, candidate"),
                type=message.type,
                time=when,
                value=message.value,
                list_id=message.list_id,
            )
        )
    return events
