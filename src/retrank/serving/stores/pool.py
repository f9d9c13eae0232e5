"""`Pool`: connections that threads borrow one at a time."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar, final

from retrank.core.errors import ConfigError, StoreUnavailableError

__all__ = ["Pool"]


class _Closeable(Protocol):
    def close(self) -> None: ...


Connection = TypeVar("Connection", bound=_Closeable)


@final
class Pool(Generic[Connection]):
    """Connections to one store, made when they are needed: as many as are ever used at the same time.

    Args:
        connect: makes a connection.
        where: the store, for messages.
        is_alive: tells at no great cost whether a connection that has lain idle may still be used.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        where: str,
        is_alive: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        self._connect, self._where, self._is_alive = connect, where, is_alive
        self._idle: list[Connection] = []  # append and pop are atomic
        self._closed = threading.Event()
        self._process = os.getpid()

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """Lend a connection; after an error it is closed, since nobody knows what state it is in.

        Yields:
            A connection that nobody else uses.

        Raises:
            StoreUnavailableError: the pool is closed.
            ConfigError: the pool was made by another process.
        """
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed.is_set():  # while it was lent
            self.close()

    def close(self) -> None:
        """Close what lies idle now, and what is lent as soon as it comes back."""
        self._closed.set()
        if os.getpid() != self._process:
            return  # the connections belong to the process that made them
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread closes as well
                return
            connection.close()

    def _take(self) -> Connection:
        if self._closed.is_set():
            raise StoreUnavailableError("an open store", "a closed one", self._where)
        if os.getpid() != self._process:
            fix = "open a store in the process that uses it"
            raise ConfigError("a store of this process", "one that was opened before a fork", self._where, fix)
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if self._is_alive(connection):
                return connection
            connection.close()
