"""`Live`: a recommender with all that happened since its bundle was made."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

import msgspec
import polars as pl

from retrank.core.errors import RetrankError
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.documents import with_documents
from retrank.serving.event_times import HistoryClock
from retrank.serving.feed import new_changes
from retrank.serving.json_values import from_json
from retrank.serving.settings import Effect
from retrank.serving.stores.records import Change, Document, Event
from retrank.serving.stores.store import Store

__all__ = ["Live"]

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
            StorageError: the store cannot be read, or is behind what was brought in.
        """
        while changes := new_changes(store, self.position)[1]:
            self.bring_in(changes)

    def bring_in(self, changes: Sequence[Change]) -> None:
        """Bring in the changes that come next.

        Args:
            changes: of the store, at least one.
        """
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
        """Bring in changes together; those that do not fit this bundle are found by halving, counted and logged."""
        try:
            self._bring_in_all(changes)
        except Exception as error:  # noqa: BLE001 (whatever a stored change leads to, requests go on)
            if len(changes) > 1:
                middle = len(changes) // 2
                self._apply(changes[:middle])
                self._apply(changes[middle:])
                return
            self.num_refused += 1
            is_ours = isinstance(error, RetrankError)
            message = "change %d of the store does not fit the bundle: %s"
            _log.warning(message, changes[0].position, error, exc_info=not is_ours)

    def _bring_in_all(self, changes: Sequence[Change]) -> None:
        """Bring in changes, all or none of the recommender's; the rest may be brought in twice."""
        documents = [change.item for change in changes if isinstance(change.item, Document)]
        for document in documents:
            if document.kind == "query":
                self._describe(document)
        interactions = []
        for change in changes:
            if not isinstance(event := change.item, Event):
                continue
            effect = self._event_types.get(event.type, "record")
            if effect == "hide":
                self._hidden.setdefault(event.query, {})[event.candidate] = None
            elif effect == "unhide":
                self._hidden.get(event.query, {}).pop(event.candidate, None)
            elif effect == "interaction" and change.position > self._after:
                interactions.append(event)
        recommender = with_documents(self.recommender, [one for one in documents if one.kind == "candidate"])
        self.recommender = self._with_events(recommender, interactions)

    def _with_events(self, recommender: Recommender, events: Sequence[Event]) -> Recommender:
        if not events:
            return recommender
        log = recommender.history.events
        keys = {log.query: [event.query for event in events], log.candidate: [event.candidate for event in events]}
        times = self._clock.column([event.time for event in events])
        table = pl.DataFrame(keys)
        return recommender.with_events(table if times is None else table.with_columns(times))

    def _describe(self, document: Document) -> None:
        if document.content is None:
            self._features.pop(document.key, None)
            return
        features = msgspec.json.decode(document.content, type=dict[str, Any])
        types = self.recommender.queries.column_types
        self._features[document.key] = {
            name: from_json(value, types[name], f"column '{name}' of query {document.key!r}")
            for name, value in features.items()
            if name in types
        }
