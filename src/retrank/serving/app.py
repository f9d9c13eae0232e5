"""`create_app`: the ASGI application around a service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from retrank.core.errors import RetrankError
from retrank.core.version import __version__
from retrank.serving.browse_routes import browse_routes
from retrank.serving.front import Front
from retrank.serving.hot_routes import HotPath, hot_routes
from retrank.serving.openapi import OpenApi
from retrank.serving.page_routes import page_routes
from retrank.serving.replies import HttpError, error_reply, json_reply
from retrank.serving.resource_routes import resource_routes
from retrank.serving.service import Service
from retrank.serving.status_routes import status_routes

__all__ = ["create_app"]


def create_app(service: Service) -> Front:
    """Return an application that any ASGI server can run.

    Args:
        service: what answers; it is drained when the server shuts down.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(service.keep_up())
        yield
        looking.cancel()
        await service.drain()

    app = FastAPI(title="retrank", version=__version__, lifespan=lifespan, openapi_url=None)
    hot = hot_routes(service)
    app.router.routes[:0] = hot  # looked at first
    if service.settings.shows_page:
        app.include_router(page_routes())
        app.include_router(browse_routes(service))
    app.include_router(resource_routes(service))
    app.include_router(status_routes(service))
    document = OpenApi(app, service).document

    async def openapi(_: Request) -> Response:
        return json_reply(document())

    app.add_route("/openapi.json", openapi, include_in_schema=False)
    for kind in (HttpError, RetrankError, msgspec.MsgspecError, Exception):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _invalid)
    quick: ASGIApp = HotPath(app, hot)
    if service.settings.origins:
        quick = CORSMiddleware(
            quick,
            allow_origins=service.settings.origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
        )
    return Front(quick, service.settings, service.telemetry, frozenset(route.path for route in hot))


async def _refused(request: Request, error: Exception) -> Response:
    return error_reply(error, request.scope["request_id"])


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    return error_reply(HttpError(status, str(getattr(error, "detail", error)), headers), request.scope["request_id"])


async def _invalid(request: Request, _: Exception) -> Response:
    return error_reply(HttpError(422, "a parameter that is not valid"), request.scope["request_id"])
