"""The routes of the page: a few files that are read once, and headers that let nothing else run in it."""

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrank.serving.replies import HttpError

__all__ = ["page_routes"]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "cache-control": "no-cache",  # ask each time whether it has changed; the answer is short
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_INDEX: Final = "index.html"


def page_routes() -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    contents = {
        file.name: file.read_bytes()
        for file in (files("retrank.serving") / "page").iterdir()
        if "." + file.name.rpartition(".")[2] in _TYPES
    }

    def reply(name: str, request: Request) -> Response:
        body = contents[name]
        headers = {**_HEADERS, "etag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if headers["etag"] in known:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_TYPES["." + name.rpartition(".")[2]])

    @router.get("/")
    async def get_index(request: Request) -> Response:
        return reply(_INDEX, request)

    @router.get("/page/{name}")
    async def get_file(name: str, request: Request) -> Response:
        if name not in contents:
            raise HttpError(404, "the page has no such file")
        return reply(name, request)

    return router
