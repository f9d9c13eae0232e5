"""The routes that are called most: plain Starlette, strict msgspec types, and no pydantic on the way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast, final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from retrank.core.errors import ConfigError, RetrankError
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Request as ListRequest
from retrank.serving.asks import ListAsk, items_of, key_and_features
from retrank.serving.bodies import read_json
from retrank.serving.events import checked_events
from retrank.serving.messages import (
    Accepted,
    BatchAnswer,
    BatchRequest,
    EventsRequest,
    Key,
    RankAnswer,
    RankRequest,
    RecommendRequest,
    SessionRequest,
    SimilarAnswer,
    SimilarRequest,
)
from retrank.serving.replies import HttpError, error_bytes, error_reply, json_reply
from retrank.serving.service import Call, Service, Serving

__all__ = ["HotPath", "hot_routes"]

_HAS_GONE: Final = "retrank.has_gone"  # of a scope
Sent = TypeVar("Sent")
_PATIENCE: Final = 0.05  # seconds before it is worth listening whether the client is still there


def hot_routes(service: Service) -> list[Route]:
    """Return the routes.

    Args:
        service: what answers.
    """
    routes = _HotRoutes(service)
    handlers = {
        "/recommend": _decoded(RecommendRequest, routes.recommend),
        "/recommend/batch": _decoded(BatchRequest, routes.recommend_batch),
        "/session/recommend": _decoded(SessionRequest, routes.recommend),
        "/rank": _decoded(RankRequest, routes.rank),
        "/similar": _decoded(SimilarRequest, routes.similar),
        "/events": _decoded(EventsRequest, routes.events),
    }
    return [Route(path, handler, methods=["POST"]) for path, handler in handlers.items()]


@final
class HotPath:
    """Leads requests of hot routes straight to them, and all others to the app that has them too.

    The middleware and the routing of the app would cost as much as all else that is done for a request beside its
    answer.

    Args:
        app: of ASGI.
        routes: what `hot_routes` returned.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app, self._handlers = app, {route.path: route.endpoint for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Args:
            scope: of ASGI.
            receive: gives the body.
            send: takes the reply.
        """
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        handler = self._handlers.get(scope["path"]) if is_post else None
        if handler is None:
            await self._app(scope, receive, send)
        else:
            reply = await handler(Request(scope, receive))
            await reply(scope, receive, send)


@final
class _HotRoutes:
    """What answers, each taking a decoded message."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.settings.limits

    async def recommend(self, message: RecommendRequest | SessionRequest, request: Request) -> bytes:
        ask = ListAsk(message, self._limits)
        return cast("bytes", await awaited(self._service.answers.submit(ask), request))

    async def recommend_batch(self, message: BatchRequest, request: Request) -> BatchAnswer:
        if len(message.requests) > self._limits.requests:
            raise ConfigError(f"at most {self._limits.requests} requests", str(len(message.requests)), "requests")
        return cast("BatchAnswer", await awaited(asyncio.ensure_future(self._in_parts(message)), request))

    async def _in_parts(self, message: BatchRequest) -> BatchAnswer:
        answers: list[bytes] = []
        size = self._limits.micro_batch
        for first in range(0, len(message.requests), size):  # others get their turn between two parts
            asks: list[ListAsk | RetrankError] = []
            for one in message.requests[first : first + size]:
                try:
                    asks.append(ListAsk(one, self._limits))
                except RetrankError as error:
                    asks.append(error)
            good = [ask for ask in asks if isinstance(ask, ListAsk)]
            made = iter(await self._service.call(lambda serving, good=good: self._service.lists(good, serving)))  # type: ignore[misc]
            found = [ask if isinstance(ask, RetrankError) else next(made) for ask in asks]
            answers += [error_bytes(one) if isinstance(one, Exception) else one for one in found]
        return BatchAnswer([msgspec.Raw(answer) for answer in answers])

    async def rank(self, message: RankRequest, request: Request) -> RankAnswer:
        if len(message.candidates) > self._limits.k:
            raise ConfigError(f"at most {self._limits.k} candidates", str(len(message.candidates)), "candidates")

        def ranked(serving: Serving) -> RankAnswer:
            live = serving.live
            key, features = key_and_features(message.query, live)
            asked = list(dict.fromkeys(message.candidates))
            is_known = (live.recommender.catalogue.rows(asked) >= 0).tolist()
            known = [one for one, is_there in zip(asked, is_known, strict=True) if is_there]
            rules = ListRequest(live.query(key, features), len(asked), exclude_seen=False, allow=known)
            found = live.recommender.answer([rules])[0]
            if isinstance(found, RetrankError):
                raise found
            there = set(found.keys)
            unknown: list[Key] = [one for one in asked if one not in there]
            items = items_of(found, serving.details if message.details else None)
            degraded = list(self._service.degraded) or msgspec.UNSET
            return RankAnswer(key, found.stage, items, unknown, live.version, degraded)

        return cast("RankAnswer", await awaited(self._service.answers.submit(Call(ranked)), request))

    async def similar(self, message: SimilarRequest, request: Request) -> SimilarAnswer:
        ListAsk(RecommendRequest(message.candidate, k=message.k, allow=message.allow, deny=message.deny), self._limits)

        def listed(serving: Serving) -> SimilarAnswer:
            recommender = serving.live.recommender
            table = recommender.similar(
                message.candidate, message.k, where=message.where, allow=message.allow, deny=message.deny
            )
            keys = table[recommender.candidate].to_list()
            rows = recommender.catalogue.rows(keys).tolist()
            found = RankedList(keys, table["score"].to_list(), rows, "retrieval", [1.0] * len(keys))
            items = items_of(found, serving.details if message.details else None)
            return SimilarAnswer(message.candidate, items, serving.live.version)

        return cast("SimilarAnswer", await awaited(self._service.answers.submit(Call(listed)), request))

    async def events(self, message: EventsRequest, _: Request) -> Accepted:
        service = self._service
        if len(message.events) > self._limits.requests:
            raise ConfigError(f"at most {self._limits.requests} events", str(len(message.events)), "events")
        events = checked_events(message.events, service.serving.live.recommender, service.settings.event_types)
        is_new = cast("Sequence[bool]", await service.write(events))
        for event, new in zip(events, is_new, strict=True):
            if new:
                service.telemetry.events.labels(event.type).inc()
        return Accepted(sum(is_new), len(is_new) - sum(is_new))


async def awaited(future: "asyncio.Future[Any]", request: Request) -> Any:
    """Wait for an answer; give it up when the client has gone.

    Args:
        future: of the answer.
        request: whose answer it is.
    """
    listening = asyncio.get_running_loop().call_later(_PATIENCE, _listen, future, request)
    try:
        return await future
    except asyncio.CancelledError:
        if request.scope.get(_HAS_GONE):
            raise HttpError(499, "the client has gone") from None
        raise
    finally:
        listening.cancel()


def _listen(future: "asyncio.Future[Any]", request: Request) -> None:
    """Cancel what a client waits for when it has gone."""
    task = asyncio.ensure_future(_cancel_when_gone(future, request))
    future.add_done_callback(lambda _: task.cancel())


async def _cancel_when_gone(future: "asyncio.Future[Any]", request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    request.scope[_HAS_GONE] = True
    future.cancel()


def _decoded(
    kind: type[Sent], answer: Callable[[Sent, Request], Awaitable[Any]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that reads a message strictly and writes what is answered."""
    decode = msgspec.json.Decoder(kind).decode

    async def handler(request: Request) -> Response:
        try:
            return json_reply(await answer(await read_json(request, decode), request))
        except (HttpError, RetrankError, msgspec.MsgspecError) as error:
            return error_reply(error, request.scope["request_id"])

    handler.__name__ = answer.__name__
    return handler
