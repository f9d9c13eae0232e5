"""`Live`: a recommender with all that happened since its bundle was made."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import msgspec
import polars as pl

from retrank.core.errors import ConfigError, RetrankError
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.documents import CandidateDocuments
from retrank.serving.event_times import HistoryClock
from retrank.serving.settings import Effect
from retrank.serving.stores.records import Change, Document, Event
from retrank.serving.stores.store import Store

__all__ = ["Live"]

_PAGE: Final = 10_000
_log = logging.getLogger("retrank.serving")


@final
class Live:
    """A recommender, kept up to date with a store; what one thread answers from.

    Not a value: its one thread changes it between two batches, so that no request sees half a change.

    Args:
        recommender: of the bundle.
        version: what tells the bundle from others.
        event_types: the types of events, and what each does.
        after: the position up to which the store's changes are in the bundle already.

    Attributes:
        recommender: with all changes so far.
        position: of the latest change that it has.
        num_refused: how many changes do not fit this bundle, and were left out.
    """

    def __init__(
        self, recommender: Recommender, *, version: str, event_types: Mapping[str, Effect], after: int = 0
    ) -> None:
        self.recommender, self.version, self.position, self.num_refused = recommender, version, 0, 0
        self._after, self._event_types = after, event_types
        self._clock = HistoryClock(recommender.history.events)
        self._hidden: dict[Key, dict[Key, None]] = {}
        self._features: dict[Key, dict[str, Any]] = {}

    def follow(self, store: Store) -> None:
        """Bring in what is new in a store.

        Args:
            store: where the changes are.

        Raises:
            StoreUnavailableError: the store cannot be read.
        """
        while store.position() > self.position:
            changes = store.changes(self.position, _PAGE)
            if not changes:
                return
            self._apply(changes)
            self.position = changes[-1].position

    def hidden(self, key: Key) -> Sequence[Key]:
        """Return the candidates that a query does not want to see again, in the order in which it said so.

        Args:
            key: of the query.
        """
        return tuple(self._hidden.get(key, ()))

    def query(self, key: Key, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return a query with what the store knows of it; what it brings itself counts.

        Args:
            key: of the query.
            features: that it brings, by column name.
        """
        return {self.recommender.query: key, **self._features.get(key, {}), **features}

    def _apply(self, changes: Sequence[Change]) -> None:
        events = [(change.position, change.item) for change in changes if isinstance(change.item, Event)]
        documents = [change.item for change in changes if isinstance(change.item, Document)]
        candidates = CandidateDocuments([item for item in documents if item.kind == "candidate"])
        self.recommender, refused = candidates.applied(self.recommender)
        for item in documents:
            if item.kind == "query":
                self._describe(item)
        interactions = []
        for position, event in events:
            effect = self._event_types.get(event.type, "record")
            if effect == "hide":
                self._hidden.setdefault(event.query, {})[event.candidate] = None
            elif effect == "unhide":
                self._hidden.get(event.query, {}).pop(event.candidate, None)
            elif effect == "interaction" and position > self._after:
                interactions.append(event)
        self.num_refused += refused + self._append(interactions)

    def _append(self, events: Sequence[Event]) -> int:
        """Append interactions; those that do not fit are left out, counted and logged."""
        if not events:
            return 0
        log = self.recommender.history.events
        columns = [
            pl.Series(log.query, [event.query for event in events], strict=False),
            pl.Series(log.candidate, [event.candidate for event in events], strict=False),
        ]
        times = self._clock.column([event.time for event in events])
        try:
            self.recommender = self.recommender.with_events(
                pl.DataFrame(columns if times is None else [*columns, times])
            )
        except (RetrankError, pl.exceptions.PolarsError) as error:
            if len(events) > 1:
                return sum(self._append([event]) for event in events)
            _log.warning("event %s does not fit the bundle and is left out: %s", events[0].id, error)
            return 1
        return 0

    def _describe(self, document: Document) -> None:
        if document.content is None:
            self._features.pop(document.key, None)
            return
        features = msgspec.json.decode(document.content)
        if not isinstance(features, dict):
            raise ConfigError("an object of features", str(features)[:64], f"query {document.key!r} in the store")
        known = self.recommender.queries.column_types
        self._features[document.key] = {name: value for name, value in features.items() if name in known}
