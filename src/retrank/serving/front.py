"""`Front`: what every request passes: its id, its key, its size, and the log; an error never leaves as a trace."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

from retrank.serving.keys import is_known_key
from retrank.serving.replies import HttpError, error_reply
from retrank.serving.settings import Settings
from retrank.serving.telemetry import Telemetry

__all__ = ["Front"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN: Final = frozenset({"/", "/healthz", "/readyz"})  # need no key; so do the files of the page
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("retrank.serving.requests")


@final
class Front:
    """ASGI middleware around the app.

    Args:
        app: what answers.
        settings: keys, limits and logs.
        telemetry: counts requests.
        paths: by which plain routes are counted.
    """

    def __init__(self, app: App, settings: Settings, telemetry: Telemetry, paths: frozenset[str]) -> None:
        self._app, self._settings, self._telemetry = app, settings, telemetry
        start = secrets.token_hex(6)
        self._ids = (f"{start}-{number:x}" for number in itertools.count())
        self._known = paths  # never any other path: strangers may make up a million of them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Args:
            scope: of ASGI.
            receive: gives the body.
            send: takes the reply.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, has_begun = time.perf_counter(), 500, False
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else next(self._ids)
        scope["request_id"] = request_id

        async def send_on(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", b"app;dur=%.2f" % ((time.perf_counter() - started) * 1e3)),
                ]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, self._limited(receive), send_on)
        except Exception as error:  # noqa: BLE001 (nothing may leave as a trace)
            if not isinstance(error, HttpError):
                _log.exception("a request failed", extra={"fields": {"request_id": request_id, "path": scope["path"]}})
            if not has_begun:
                await error_reply(error, request_id)(scope, receive, send_on)
        finally:
            self._tell(scope, status, time.perf_counter() - started, request_id)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._settings.limits.body_bytes:
            raise HttpError(413, f"a body has at most {self._settings.limits.body_bytes} bytes")
        path = scope["path"]
        if not self._settings.key_hashes or path in _OPEN or path.startswith("/page/") or scope["method"] == "OPTIONS":
            return
        scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not is_known_key(key.strip(), self._settings.key_hashes):
            raise HttpError(401, "send a key, as 'Authorization: Bearer KEY'", {"www-authenticate": "Bearer"})

    def _limited(self, receive: Receive) -> Receive:
        limits = self._settings.limits
        left, is_complete = limits.body_bytes, False
        loop = asyncio.get_running_loop()
        until = loop.time() + limits.patience

        async def receive_on() -> Message:
            nonlocal left, is_complete
            if is_complete:
                return await receive()  # that the client has gone, whenever it goes
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                close = {"connection": "close"}
                raise HttpError(408, f"send a body within {limits.patience:g} s", close) from None
            if message["type"] != "http.request":
                raise HttpError(499, "the client has gone")
            is_complete = not message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise HttpError(413, f"a body has at most {limits.body_bytes} bytes")
            return message

        return receive_on

    def _tell(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = scope.get("route")
        name = getattr(route, "path", None) or (scope["path"] if scope["path"] in self._known else "other")
        self._telemetry.requests.labels(name, str(status)).inc()
        self._telemetry.seconds.labels(name).observe(seconds)
        if self._settings.logs_requests:
            fields = {
                "request_id": request_id, "method": scope["method"], "route": name, "status": status,
                "milliseconds": round(seconds * 1e3, 2),
            }  # fmt: skip
            _log.info("request", extra={"fields": fields})
