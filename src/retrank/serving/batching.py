"""`MicroBatcher`: what arrives while the one before is worked on is worked on together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar, final

from retrank.core.errors import RetrankError

__all__ = ["BusyError", "DeadlineError", "MicroBatcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(RetrankError, RuntimeError):
    """The queue is full; ask again in a moment."""


class DeadlineError(RetrankError, RuntimeError):
    """A request waited longer than it may."""


@final
class MicroBatcher(Generic[Item, Result]):
    """Works on items in one thread, in batches of all that wait.

    Nothing waits for a batch to fill: a lone item is worked on at once, and while that lasts the next batch gathers.
    The queue is bounded. An item whose future was cancelled, or whose deadline has passed, is not worked on.

    Used from one event loop.

    Args:
        work: takes a batch, and returns a result or an error per item, in their order.
        largest: the most items in a batch.
        capacity: the most items that wait.
        name: of the thread, and of the queue in messages.
        seconds: how long an item may wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        largest: int,
        capacity: int,
        name: str,
        seconds: float,
    ) -> None:
        self._work, self._largest, self._capacity, self._name, self._seconds = work, largest, capacity, name, seconds
        self._waiting: deque[tuple[Item, asyncio.Future[Result], float]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._is_working = self._is_scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, item: Item, seconds: float | None = None) -> "asyncio.Future[Result]":
        """Queue an item.

        Args:
            item: to work on.
            seconds: how long it may wait, if not as long as others.

        Returns:
            A future of its result; cancel it to give the item up.

        Raises:
            BusyError: the queue is full.
        """
        if len(self._waiting) >= self._capacity:
            raise BusyError(f"at most {self._capacity} that wait", "more", self._name, "try again in a moment")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        until = time.monotonic() + (self._seconds if seconds is None else seconds)
        self._waiting.append((item, future, until))
        self._idle.clear()
        if not (self._is_working or self._is_scheduled):
            self._is_scheduled = True
            loop.call_soon(self._dispatch, loop)  # what arrives in the same turn of the loop comes along
        return future

    async def between(self, function: Callable[[], object]) -> None:
        """Do something else in the thread, if nothing is worked on now.

        Args:
            function: raises nothing.
        """
        if not (self._is_working or self._is_scheduled):
            await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is worked on."""
        await self._idle.wait()

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = False
        batch: list[tuple[Item, asyncio.Future[Result], float]] = []
        now = time.monotonic()
        while self._waiting and len(batch) < self._largest:
            one = self._waiting.popleft()
            if one[1].done():
                continue
            if one[2] < now:
                error = DeadlineError("an answer in time", "a queue that is too long", self._name, "try again later")
                one[1].set_exception(error)
                continue
            batch.append(one)
        if not batch:
            self._idle.set()
            return
        self._is_working = True
        made = loop.run_in_executor(self._thread, self._work, [item for item, _, _ in batch])
        made.add_done_callback(lambda done: self._finish(loop, batch, done))

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Item, asyncio.Future[Result], float]],
        done: "asyncio.Future[Sequence[Result | Exception]]",
    ) -> None:
        self._is_working = False
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        results: Sequence[Result | BaseException] = [error] * len(batch) if error is not None else done.result()
        for (_, future, _), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, asyncio.CancelledError):
                future.cancel()
            elif isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._dispatch(loop)
