"""`Service`: answers requests from a recommender that follows a store."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from retrank.core.errors import RetrankError, StoreUnavailableError
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key, Request
from retrank.serving.asks import ListAsk, ListWriter
from retrank.serving.batching import MicroBatcher
from retrank.serving.details import Details
from retrank.serving.impressions import ImpressionLog
from retrank.serving.live import Live
from retrank.serving.settings import Settings
from retrank.serving.stores.records import Document, Event
from retrank.serving.stores.store import Store
from retrank.serving.telemetry import Telemetry

__all__ = ["Call", "Service", "Serving"]

Made = TypeVar("Made")
_PATIENCE: Final = 1.0  # seconds without asking a store that is down
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
        self._ask_store_at = 0.0
        limits = settings.limits
        self.answers: MicroBatcher[ListAsk | Call, Any] = MicroBatcher(
            self._answer, largest=limits.micro_batch, capacity=limits.queue, name="answers", seconds=limits.deadline
        )
        self.writes: MicroBatcher[Sequence[Event] | Document, Any] = MicroBatcher(
            self._write, largest=limits.micro_batch, capacity=limits.queue, name="events", seconds=limits.deadline
        )
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

    async def keep_up(self) -> None:
        """Bring in what is new while nobody asks: the next answer need not, and what is told of the service is true."""
        await self.answers.between(self._follow)

    async def drain(self) -> None:
        """Answer what waits, and keep what was shown."""
        self.is_draining = True
        await self.answers.drain()
        await self.writes.drain()
        await asyncio.to_thread(self.impressions.close)
        self.answers.close()
        self.writes.close()

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
        self.telemetry.batch_size.observe(len(batch))
        self.telemetry.waiting.set(len(self.answers))
        self.telemetry.compute_seconds.observe(time.perf_counter() - started)
        return made

    def _attempt(self, function: Callable[[], list[Any]], count: int) -> list[Any]:
        try:
            return function() if count else []
        except Exception as error:  # noqa: BLE001 (every request gets an answer)
            return [error] * count

    def _follow(self) -> None:
        """Bring in what is new; go on with what is known where the store does not answer."""
        now = time.monotonic()
        if now < self._ask_store_at:
            return
        live = self.serving.live
        try:
            live.follow(self.store)
        except StoreUnavailableError as error:
            self._ask_store_at = now + _PATIENCE
            if not self.degraded:
                _log.warning("the store does not answer; answers go on without what is new: %s", error)
            self.degraded = ("store",)
        else:
            if self.degraded:
                _log.info("the store answers again")
            self.degraded = ()
        self.telemetry.is_degraded.set(bool(self.degraded))
        self.telemetry.position.set(live.position)
        self.telemetry.refused_changes.set(live.num_refused)

    def _write(self, batch: Sequence[Sequence[Event] | Document]) -> Sequence[Any]:
        """Keep events, of all calls together; and documents."""
        try:
            events = [event for one in batch if not isinstance(one, Document) for event in one]
            is_new = iter(self.store.append_events(events) if events else ())
            documents = [one for one in batch if isinstance(one, Document)]
            if documents:
                self.store.put(documents)
            return [None if isinstance(one, Document) else [next(is_new) for _ in one] for one in batch]
        except RetrankError as error:
            return [error] * len(batch)


def _found(recommender: Recommender, requests: Sequence[Request]) -> Sequence[RankedList | Exception]:
    """Answer requests together; one by one if they fail together in a way that nobody foresaw."""
    try:
        return recommender.answer(requests) if requests else []
    except Exception as error:  # noqa: BLE001 (a request must not spoil those beside it)
        if len(requests) == 1:
            return [error]
        return [one for request in requests for one in _found(recommender, [request])]
