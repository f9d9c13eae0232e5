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
_MOST: Final = 500_000  # candidates in lists that wait to be written
_TOGETHER: Final = 50_000  # candidates in lists that are written together: what any store does in time
_log = logging.getLogger("retrank.serving")


@final
class ImpressionLog:
    """Writes impressions to a store, many at a time, in a thread of its own.

    Impressions are no acknowledged events: a process that is killed loses those of the last half second, and while the
    store is down the oldest that wait are dropped and counted, as are those that wait still when the log is closed.

    Args:
        store: where they go.
        telemetry: counts those that are lost.
        most: the candidates in lists that may wait; a list counts as one more than it has.
    """

    def __init__(self, store: Store, telemetry: Telemetry, most: int = _MOST) -> None:
        self._store, self._telemetry, self._most = store, telemetry, most
        self._waiting: deque[Impression] = deque()
        self._size = 0  # of what waits
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._is_failing = False
        self._thread: threading.Thread | None = None

    def add(self, impression: Impression) -> None:
        """Keep an impression soon.

        Args:
            impression: what was shown.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
            self._thread.start()
        with self._lock:
            self._waiting.append(impression)
            self._size += _size(impression)
            self._drop()

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._waiting:
            _log.warning("%d impressions are lost", len(self._waiting))
            self._telemetry.lost_impressions.inc(len(self._waiting))
            self._waiting.clear()

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write what waits; where that fails, once more the next time."""
        while some := self._take():
            try:
                self._store.log_impressions(some)
            except RetrankError as error:
                if not self._is_failing:
                    _log.warning("impressions are not kept now: %s", error)
                self._is_failing = True
                with self._lock:
                    self._waiting.extendleft(reversed(some))
                    self._size += sum(map(_size, some))
                    self._drop()
                return
            self._is_failing = False

    def _take(self) -> list[Impression]:
        """Return the oldest that wait, as many as are written together."""
        some: list[Impression] = []
        with self._lock:
            size = 0
            while self._waiting and (not some or size + _size(self._waiting[0]) <= _TOGETHER):
                some.append(self._waiting.popleft())
                size += _size(some[-1])
            self._size -= size
        return some

    def _drop(self) -> None:
        """Drop the oldest of too many."""
        while self._size > self._most:
            self._size -= _size(self._waiting.popleft())
            self._telemetry.lost_impressions.inc()


def _size(impression: Impression) -> int:
    return len(impression.keys) + 1
