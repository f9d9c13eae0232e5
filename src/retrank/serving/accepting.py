"""`Acceptor`: takes connections from a socket on which other processes accept too, one at a turn of the event loop.

The loops' own accepting empties the queue in one turn, and who wakes first has them all. One at a turn, two workers got
8 of 16 connections each in five runs of six, while asyncio dealt them 16 to 0 and 15 to 1, and uvloop 10 to 6 and 11 to
5. A socket for each worker (SO_REUSEPORT), among which the kernel deals by chance, gave 10 to 6; and the connections
that wait for a worker when it dies are lost with its socket, while from a common socket others take them.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final, final

__all__ = ["Acceptor"]

_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.5  # seconds until there may be files again
_log = logging.getLogger("retrank.serving")


@final
class Acceptor:
    """Accepts on a listening socket, from when it is made.

    Args:
        listener: the socket; it is this object's from now on.
        protocol: makes what speaks with a client.
    """

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        listener.setblocking(False)
        self._listener, self._protocol = listener, protocol
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._loop.add_reader(listener, self._accept)

    async def close(self) -> None:
        """Take what has come so far, and accept no more."""
        self._loop.remove_reader(self._listener)
        while self._accept():
            pass
        self._listener.close()
        while self._connecting:
            await asyncio.wait(self._connecting)

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process was quicker, or the client has gone
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            _log.error("no more connections for a moment: %s", error)
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE, self._resume)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # the client has gone

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)
