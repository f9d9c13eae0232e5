"""`Watch`: a limit on the time that a thread waits for a server that does not answer."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, final

__all__ = ["Watch"]

_TICKS: Final = 4  # looks within one limit


@final
class Watch:
    """Shuts the sockets of those who have waited too long, so that their drivers report a lost connection.

    For drivers that know no such limit: one on the side of the server does not help where the server itself hangs. One
    thread looks after all sockets; it sleeps while nobody waits.

    Args:
        limit: seconds; a wait may take a quarter more.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._deadlines: dict[socket.socket, float] = {}  # single operations on it are atomic
        self._someone_waits = threading.Event()
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limited(self, waiting: socket.socket) -> Iterator[None]:
        """Limit the time that is spent within.

        Args:
            waiting: what is shut when the limit is over.

        Yields:
            Nothing.
        """
        self._deadlines[waiting] = time.monotonic() + self._limit
        if not self._someone_waits.is_set():
            self._someone_waits.set()
        if self._thread is None:
            self._start()
        try:
            yield
        finally:
            del self._deadlines[waiting]

    def close(self) -> None:
        """Let the thread end, once nobody waits."""
        self._closed = True
        self._someone_waits.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="retrank store watch", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while not self._closed or self._deadlines:
            self._someone_waits.wait()
            time.sleep(self._limit / _TICKS)
            self._someone_waits.clear()  # before the look, so that nobody who comes after it is missed
            now = time.monotonic()
            for waiting, deadline in list(self._deadlines.items()):
                self._someone_waits.set()
                if deadline < now:
                    with suppress(OSError):  # it has come to its end meanwhile
                        waiting.shutdown(socket.SHUT_RDWR)
