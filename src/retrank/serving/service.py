"""`Service`: answers requests from a recommender that follows a store."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from retrank.core.errors import RetrankError, StorageError, StoreUnavailableError
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key, Request
from retrank.serving.asks import ListAsk, ListWriter
from retrank.serving.batching import BusyError, DeadlineError, MicroBatcher
from retrank.serving.details import Details
from retrank.serving.feed import Feed
from retrank.serving.impressions import ImpressionLog
from retrank.serving.live import Live
from retrank.serving.settings import Settings
from retrank.serving.stores.records import Document, Event, Kind
from retrank.serving.stores.store import Store
from retrank.serving.telemetry import Telemetry

__all__ = ["Call", "Service", "Serving"]

Made = TypeVar("Made")
_CATCHING_UP: Final = 0.1  # seconds of a batch that may go to changes
_PULSE: Final = 1.0, 0.2  # seconds between two looks at the store where there are no requests; while it is down
_log = logging.getLogger("retrank.serving")


@final
class Serving:
    """What the answering thread works with at a moment; swapped as a whole when a bundle is loaded.

    Args:
        live: the recommender with all changes so far.
        remembers: whether impressions are made.
    """

    def __init__(self, live: Live, *, remembers: bool) -> None:
        self.live, self.writer = live, ListWriter(live.version, remembers=remembers)
        self._details: tuple[object, Details] | None = None

    @property
    def details(self) -> Details:
        """The columns of the candidates as they are now."""
        table = self.live.recommender.candidates
        if self._details is None or self._details[0] is not table:
            self._details = (table, Details(self.live.recommender))
        return self._details[1]


@final
@dataclass(frozen=True, slots=True)
class Call:
    """Anything else to be done by the answering thread.

    Args:
        function: takes what the thread works with.
    """

    function: Callable[[Serving], Any]


_LOOK: Final = Call(lambda _: None)


@final
class Service:
    """Answers requests; all of its answers are made by one thread, in batches.

    Args:
        live: the recommender.
        store: of events and documents.
        settings: how the service runs.
        telemetry: where it tells of itself.
    """

    def __init__(self, live: Live, store: Store, settings: Settings, telemetry: Telemetry) -> None:
        self.settings, self.store, self.telemetry = settings, store, telemetry
        self.serving = Serving(live, remembers=settings.logs_impressions)
        self.degraded: tuple[str, ...] = ()
        self.is_draining = False
        self.reload_error: str | None = None  # of the latest bundle, if it was refused
        self.store_error: Exception | None = None  # why answers go on without the store
        self._write_error: RetrankError | None = None
        limits = settings.limits
        self.answers: MicroBatcher[ListAsk | Call, Any] = MicroBatcher(
            self._answer, largest=limits.micro_batch, capacity=limits.queue, name="answers", seconds=limits.deadline
        )
        self.writes: MicroBatcher[Sequence[Event] | Document, Any] = MicroBatcher(
            self._write, largest=limits.micro_batch, capacity=limits.queue, name="events", seconds=limits.deadline
        )
        self.reads: MicroBatcher[tuple[Kind, Key], Document | None] = MicroBatcher(
            self._read, largest=limits.micro_batch, capacity=limits.queue, name="reads", seconds=limits.deadline
        )
        self.feed = Feed(store)
        self.impressions = ImpressionLog(store, telemetry)

    async def call(self, function: Callable[[Serving], Made]) -> Made:
        """Do something in the answering thread, between two batches' answers.

        Args:
            function: takes what the thread works with.

        Returns:
            What it returns.

        Raises:
            BusyError: the queue is full.
            DeadlineError: it waited too long.
        """
        made: Made = await self.answers.submit(Call(function))
        return made

    async def write(self, item: Sequence[Event] | Document) -> Any:
        """Keep events or a document in the store.

        Args:
            item: what to keep.

        Returns:
            For each event, whether it is new; None for a document.

        Raises:
            BusyError: the queue is full.
            StorageError: it may not have been kept.
        """
        return await self._in_time(self.writes.submit(item))

    async def stored(self, kind: Kind, key: Key) -> bytes | None:
        """Look a document up in the store.

        Args:
            kind: what it describes.
            key: its key.

        Returns:
            Its content; None if there is none, or it was deleted.

        Raises:
            BusyError: the queue is full.
            StorageError: the store does not answer.
        """
        found: Document | None = await self._in_time(self.reads.submit((kind, key)))
        return None if found is None else found.content

    async def look(self) -> None:
        """Bring in what is new, as before every batch of answers; where that must wait, do not."""
        with suppress(BusyError, DeadlineError):
            await self.answers.submit(_LOOK)

    async def keep_up(self) -> None:
        """Look at the store from time to time, until cancelled: requests may be rare, and what is down comes back."""
        while True:
            await self.look()
            await asyncio.sleep(_PULSE[bool(self.degraded)])

    async def drain(self) -> None:
        """Answer what waits, and keep what was shown."""
        self.is_draining = True
        for queue in (self.answers, self.writes, self.reads):
            await queue.drain()
        await asyncio.to_thread(self.impressions.close)
        self.close()

    def close(self) -> None:
        """Let all threads end."""
        for one in (self.answers, self.writes, self.reads, self.feed, self.impressions):
            one.close()

    def bring_up_to_date(self, live: Live) -> bool:
        """Bring in what is new; for the answering thread.

        Args:
            live: what it is brought into.

        Returns:
            Whether that is all; there may be too much for now.

        Raises:
            StorageError: the store does not answer in time, or is not the one that it was.
        """
        until = time.monotonic() + _CATCHING_UP
        while changes := self.feed.after(live.position):
            live.bring_in(changes)
            if time.monotonic() > until:
                return live.position >= self.feed.position
        return True

    def lists(self, asks: Sequence[ListAsk], serving: Serving) -> list[bytes | Exception]:
        """Answer lists together; for the answering thread.

        Args:
            asks: the lists that are asked for.
            serving: what the thread works with.

        Returns:
            JSON or an error per list.
        """
        requests: list[Request] = []
        prepared: list[tuple[Key | None, int] | Exception] = []
        for ask in asks:
            try:
                key, request = ask.request(serving.live)
                prepared.append((key, len(requests)))
                requests.append(request)
            except Exception as error:  # noqa: BLE001 (a request must not spoil those beside it)
                prepared.append(error)
        found = _found(serving.live.recommender, requests)
        return [
            one if isinstance(one, Exception) else self._written(ask, one[0], requests[one[1]], found[one[1]], serving)
            for ask, one in zip(asks, prepared, strict=True)
        ]

    def _written(
        self, ask: ListAsk, key: Key | None, request: Request, found: RankedList | Exception, serving: Serving
    ) -> bytes | Exception:
        if isinstance(found, Exception):
            return found
        try:
            explanation = serving.live.recommender.explain(request, found).to_dict() if ask.message.explain else None
            details = serving.details if ask.message.details else None
            written, shown = serving.writer.write(key, found, details, degraded=self.degraded, explanation=explanation)
        except Exception as error:  # noqa: BLE001 (a request must not spoil those beside it)
            return error
        if shown is not None:
            self.impressions.add(shown)
        return written

    def _answer(self, batch: Sequence[ListAsk | Call]) -> Sequence[Any]:
        started = time.perf_counter()
        self._follow()
        asks = [one for one in batch if isinstance(one, ListAsk)]
        lists = iter(self._attempt(lambda: self.lists(asks, self.serving), len(asks)))
        made = [
            next(lists)
            if isinstance(one, ListAsk)
            else self._attempt(lambda one=one: [one.function(self.serving)], 1)[0]  # type: ignore[misc]
            for one in batch
        ]
        self.telemetry.waiting.set(len(self.answers))
        if len(batch) > 1 or batch[0] is not _LOOK:
            self.telemetry.batch_size.observe(len(batch))
            self.telemetry.compute_seconds.observe(time.perf_counter() - started)
        return made

    def _attempt(self, function: Callable[[], list[Any]], count: int) -> list[Any]:
        try:
            return function() if count else []
        except Exception as error:  # noqa: BLE001 (every request gets an answer)
            return [error] * count

    def _follow(self) -> None:
        """Bring in what is new; go on with what is known where the store does not answer."""
        error: Exception | None = None
        try:
            if not self.bring_up_to_date(self.serving.live):
                error = StoreUnavailableError("few changes at a time", "many", "the store", "wait a moment")
        except Exception as caught:  # noqa: BLE001 (whatever the store does, requests are answered)
            error = caught
        if (error is None) != (self.store_error is None) or type(error) is not type(self.store_error):
            self._tell(error)
        self.store_error, self.degraded = error, () if error is None else ("store",)
        live = self.serving.live
        self.telemetry.is_degraded.set(bool(self.degraded))
        self.telemetry.position.set(live.position)
        self.telemetry.refused_changes.set(live.num_refused)

    def _tell(self, error: Exception | None) -> None:
        if error is None:
            _log.info("answers know again of all that is in the store")
        elif isinstance(error, StoreUnavailableError):
            _log.warning("answers go on without what is new in the store: %s", error)
        else:
            # Nor does it start over from what is there now: what was acknowledged would vanish, and nobody decided so.
            message = (
                "this is not the store that was served from: answers go on with what is known, nothing is kept: %s"
            )
            _log.error(message, error, exc_info=not isinstance(error, RetrankError))

    def _write(self, batch: Sequence[Sequence[Event] | Document]) -> Sequence[Any]:
        """Keep events, of all calls together; and documents."""
        try:
            if self.store_error is not None and not isinstance(self.store_error, StoreUnavailableError):
                raise StorageError("the store that was served from", "another", "the store") from self.store_error
            events = [event for one in batch if not isinstance(one, Document) for event in one]
            is_new = iter(self.store.append_events(events) if events else ())
            documents = [one for one in batch if isinstance(one, Document)]
            if documents:
                self.store.put(documents)
        except RetrankError as error:
            if self._write_error is None:
                _log.warning("events and changes cannot be kept: %s", error)
            self._write_error = error
            return [error] * len(batch)
        if self._write_error is not None:
            _log.info("events and changes are kept again")
            self._write_error = None
        return [None if isinstance(one, Document) else [next(is_new) for _ in one] for one in batch]

    def _read(self, batch: Sequence[tuple[Kind, Key]]) -> Sequence[Any]:
        found: list[Document | RetrankError | None] = []
        for kind, key in batch:
            try:
                found.append(self.store.get(kind, key))
            except RetrankError as error:
                return [*found, *[error] * (len(batch) - len(found))]  # rather than wait for each
        return found

    async def _in_time(self, asked: "asyncio.Future[Made]") -> Made:
        seconds = self.settings.limits.deadline
        try:
            return await asyncio.wait_for(asked, seconds)
        except (TimeoutError, DeadlineError) as error:
            fix = "send it again; an event with an id is kept once"
            raise StoreUnavailableError(f"an answer in {seconds} s", "none yet", "the store", fix) from error


def _found(recommender: Recommender, requests: Sequence[Request]) -> Sequence[RankedList | Exception]:
    """Answer requests together; one by one if they fail together in a way that nobody foresaw."""
    try:
        return recommender.answer(requests) if requests else []
    except Exception as error:  # noqa: BLE001 (a request must not spoil those beside it)
        if len(requests) == 1:
            return [error]
        return [one for request in requests for one in _found(recommender, [request])]
