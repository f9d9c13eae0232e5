"""Run an iterator in a thread, a few items ahead of its consumer."""

from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar, final

__all__ = ["background"]

T = TypeVar("T")


def background(items: Iterator[T], *, capacity: int = 2) -> Iterator[T]:
    """Compute items in a thread of their own while the consumer works on earlier ones.

    The thread starts with the first item and has ended when the iterator is exhausted, fails, is closed, or is no
    longer referenced.

    Args:
        items: computed one after another in the thread.
        capacity: how many finished items may wait.

    Yields:
        The items, in order.

    Raises:
        BaseException: whatever `items` raised, after the items before it.

    Example:
        >>> from retrank.data.background import background
        >>> list(background(iter("abc")))
        ['a', 'b', 'c']
    """
    channel: _Channel[T] = _Channel(capacity)
    thread = Thread(target=_produce, args=(items, channel), name="retrank-background", daemon=True)
    thread.start()
    try:
        while (item := channel.get()) is not None:
            yield item[0]
    finally:
        channel.close()
        thread.join()
    if channel.failure is not None:
        raise channel.failure


@final
class _Channel(Generic[T]):
    """A bounded queue that either side may close."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[tuple[T]] = deque()
        self._capacity = capacity
        self._is_closed = False
        self._changed = Condition()
        self.failure: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room and add an item; return False if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._capacity)
            if not self._is_closed:
                self._items.append((item,))
                self._changed.notify_all()
            return not self._is_closed

    def get(self) -> tuple[T] | None:
        """Wait for an item; return None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._items)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let no more items in; those inside can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _produce(items: Iterator[T], channel: _Channel[T]) -> None:
    try:
        for item in items:
            if not channel.put(item):
                break
    except BaseException as failure:  # noqa: BLE001 - raised again in the consumer's thread
        channel.failure = failure
    finally:
        channel.close()
