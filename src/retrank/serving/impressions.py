"""`ImpressionLog`: keeps what was shown, behind the backs of those who wait for an answer."""

import logging
import threading
from collections import deque
from typing import Final, final

from retrank.core.errors import RetrankError
from retrank.serving.stores.records import Impression
from retrank.serving.stores.store import Store
from retrank.serving.telemetry import Telemetry

__all__ = ["ImpressionLog"]

_SECONDS: Final = 0.5  # between two writes
_MOST: Final = 20_000  # that wait to be written
_log = logging.getLogger("retrank.serving")


@final
class ImpressionLog:
    """Writes impressions to a store, many at a time, in a thread of its own.

    Impressions are no acknowledged events: a process that is killed loses those of the last half second, and while the
    store is down the oldest that wait are dropped and counted.

    Args:
        store: where they go.
        telemetry: counts those that are lost.
    """

    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store, self._telemetry = store, telemetry
        self._waiting: deque[Impression] = deque()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, impression: Impression) -> None:
        """Keep an impression soon.

        Args:
            impression: what was shown.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
            self._thread.start()
        self._waiting.append(impression)
        if len(self._waiting) > _MOST:
            self._waiting.popleft()
            self._telemetry.lost_impressions.inc()

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        some = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not some:
            return
        try:
            self._store.log_impressions(some)
        except RetrankError as error:
            _log.warning("%d impressions are not kept now: %s", len(some), error)
            self._waiting.extendleft(reversed(some[-_MOST:]))
