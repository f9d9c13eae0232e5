"""`Feed`: what is new in a store, for a thread that must not wait for it."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

from retrank.core.errors import StorageError, StoreUnavailableError
from retrank.serving.stores.records import Change
from retrank.serving.stores.store import Store

__all__ = ["Feed", "new_changes"]

_PAGE: Final = 1_000  # changes at a time
_PATIENCE: Final = 0.1  # seconds
_PAUSE: Final = 0.2  # seconds before a store that has failed is asked again
_WHERE: Final = "the store"


@final
class Feed:
    """Asks a store what is new, and waits for a tenth of a second at most.

    A server may hang. It is asked in a thread of its own, with one question at a time: whoever calls while the store
    owes an answer hears at once that it does not answer, and the changes of a late answer are not lost. A store in a
    file is asked in the thread that calls, which costs a quarter of that.

    What is returned is never older than the call. Used by one thread.

    Args:
        store: what is asked.
        patience: the seconds that a call may wait for a server.

    Attributes:
        position: of the store, when it answered last.
    """

    def __init__(self, store: Store, patience: float = _PATIENCE) -> None:
        self._store, self._patience = store, patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed") if store.is_server else None
        self._asked: tuple[int, Future[tuple[int, list[Change], float]]] | None = None
        self._took = 0.0  # seconds, for the answer before
        self._failed: tuple[float, StorageError] | None = None  # until when the store is left alone, and why
        self.position = 0

    def after(self, position: int) -> Sequence[Change]:
        """Return what came after a position.

        Args:
            position: of the last change that the caller has seen in this store.

        Returns:
            The next changes; none if there are none.

        Raises:
            StoreUnavailableError: the store does not answer in time.
            StorageError: it is damaged, or another, or lacks what it had.
        """
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        try:
            self.position, changes = self._ask(position)
        except StorageError as error:
            self._failed = time.monotonic() + _PAUSE, error
            raise
        self._failed = None
        return changes

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self, position: int) -> tuple[int, Sequence[Change]]:
        if self._thread is None:
            return new_changes(self._store, position)
        if self._asked is not None:
            wanted, late = self._asked
            if not late.done():
                raise self._late()
            self._asked = None
            reached, changes, self._took = late.result()
            if changes and wanted == position:
                return reached, changes
        self._asked = position, self._thread.submit(self._timed, position)
        try:
            # While the store is slow nobody waits for it; its answer is fetched by a later call.
            reached, changes, self._took = self._asked[1].result(self._patience if self._took < self._patience else 0)
        except TimeoutError:
            raise self._late() from None
        except BaseException:
            self._asked = None
            raise
        self._asked = None
        return reached, changes

    def _timed(self, position: int) -> tuple[int, list[Change], float]:
        started = time.monotonic()
        return *new_changes(self._store, position), time.monotonic() - started

    def _late(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"an answer in {self._patience} s", "none yet", _WHERE, "check the server")


def new_changes(store: Store, after: int) -> tuple[int, list[Change]]:
    """Ask a store what is new.

    Args:
        store: what is asked.
        after: the last position that the caller has seen.

    Returns:
        The position of the store, and the changes that come next: a page of them, or all.

    Raises:
        StoreUnavailableError: the store does not answer.
        StorageError: it is damaged, another, or behind the position, as a backup is.
    """
    position = store.position()
    if position < after:
        fix = "bring back the store with all that it had, or restart the service to go on from the store as it is"
        raise StorageError(f"a store at position {after} or later", f"one at position {position}", _WHERE, fix)
    return position, store.changes(after, _PAGE) if position > after else []
