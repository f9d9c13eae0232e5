"""`Connections`: the clients of a worker, none of which may hold it up by being slow."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

from retrank.serving.replies import HttpError, error_bytes
from retrank.serving.settings import Limits

__all__ = ["Connections"]

_HEAD_BYTES: Final = 64 * 1024  # of a request's line and headers
_PHRASES: Final = {408: b"Request Timeout", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}


@final
class Connections:
    """Makes the protocols of connections, and ends those whose client is slow or sends no end of headers.

    Uvicorn limits neither the number of connections, nor the size of a request's head, nor how long that takes to
    arrive, nor how long a client may leave an answer unread. (How long a body takes is up to `Front`, which reads it.)

    Args:
        protocol: makes a protocol of uvicorn's.
        limits: of patience, and of the number of connections.
    """

    def __init__(self, protocol: Callable[[], Any], limits: Limits) -> None:
        self._protocol, self._limits = protocol, limits
        self._open: set[_Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """Return a protocol for a new connection."""
        return _Connection(self._protocol(), self._open, self._limits)

    async def watch(self) -> None:
        """End the connections of clients that are too slow, until cancelled."""
        while True:
            await asyncio.sleep(self._limits.patience / 10)
            now = asyncio.get_running_loop().time()
            for connection in list(self._open):
                connection.look(now)


@final
class _Connection(asyncio.Protocol):
    """A connection, as uvicorn's protocol sees it through this one."""

    def __init__(self, inner: Any, others: "set[_Connection]", limits: Limits) -> None:
        self._inner, self._others, self._limits = inner, others, limits
        self._transport: Any = None
        self._cycle: Any = None  # the request that came last
        self._since = asyncio.get_running_loop().time()  # when the client was last seen at work
        self._num_bytes = 0  # that have come since the last request's head was complete, or its answer
        self._unsent, self._unsent_since = 0, 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if len(self._others) >= self._limits.connections and not self._makes_room():
            self._inner = None
            self._end(503, f"at most {self._limits.connections} connections")
            return
        self._others.add(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        self._inner.data_received(data)
        if not self._is_between_requests():
            self._num_bytes = 0
            return
        self._num_bytes += len(data)
        if self._num_bytes > self._most():
            self._end(431, f"headers of at most {_HEAD_BYTES} bytes")

    def eof_received(self) -> None:
        if self._inner is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._others.discard(self)
        if self._inner is not None:
            self._inner.connection_lost(error)

    def look(self, now: float) -> None:
        """End the connection if its client is too slow."""
        unsent = self._transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._unsent_since = now
        elif now - self._unsent_since > self._limits.patience:
            self._transport.abort()
            return
        self._unsent = unsent
        if not self._is_between_requests() or self._cycle is not self._inner.cycle:
            self._since = now
        elif now - self._since > self._limits.patience and not self._transport.is_closing():
            if self._has_more_body():
                self._transport.close()
            elif self._num_bytes:
                self._end(408, f"send the headers within {self._limits.patience:g} s")
            elif self._cycle is None:
                self._transport.close()
            # Else it lies idle after an answer: uvicorn ends that after another time, in which balancers trust.
        self._cycle = self._inner.cycle

    @property
    def idle(self) -> float | None:
        """Since when the connection has lain idle, if that is long."""
        is_idle = self._is_between_requests() and not self._num_bytes and self._cycle is self._inner.cycle
        now = asyncio.get_running_loop().time()
        return self._since if is_idle and now - self._since > self._limits.patience else None

    def close(self) -> None:
        """End the connection between two requests."""
        self._others.discard(self)
        self._transport.close()

    def _makes_room(self) -> bool:
        """End the connection that has lain idle for longest, if there is one."""
        idle = [(since, place) for place, one in enumerate(self._others) if (since := one.idle) is not None]
        if idle:
            list(self._others)[min(idle)[1]].close()
        return bool(idle)

    def _is_between_requests(self) -> bool:
        cycle = self._inner.cycle
        return cycle is None or cycle.response_complete

    def _has_more_body(self) -> bool:
        """Tell whether the request before was answered and its body has not come to its end."""
        cycle = self._inner.cycle
        return cycle is not None and cycle.more_body

    def _most(self) -> int:
        # What remains of a body that was refused is read and forgotten for a while, so that its client reads why.
        return self._limits.body_bytes * 8 if self._has_more_body() else _HEAD_BYTES

    def _end(self, status: int, message: str) -> None:
        if not self._transport.is_closing():
            body = error_bytes(HttpError(status, message))
            head = (
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n"
            )
            more = b"retry-after: 1\r\n" if status == 503 else b""
            self._transport.write(head % (status, _PHRASES[status], len(body), more) + body)
            self._transport.close()
