"""Replies: JSON from messages, and errors that say what to do and show no trace."""

from typing import Any, Final

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from retrank.core.errors import RetrankError, StorageError
from retrank.serving.batching import BusyError, DeadlineError
from retrank.serving.messages import ErrorAnswer, ErrorDetails

__all__ = ["HttpError", "error_bytes", "error_reply", "json_reply", "status_of"]

_encode: Final = msgspec.json.Encoder().encode
_LONGEST: Final = 500  # characters of what a client sent that are repeated to it


class HttpError(Exception):
    """A reply of an error that is not retrank's.

    Args:
        status: of HTTP.
        message: what is wrong.
        headers: of the reply.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status, self.message, self.headers = status, message, headers or {}


def json_reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a reply of JSON.

    Args:
        content: bytes of JSON, or what msgspec can write.
        status: of HTTP.
        headers: beside the type and length of the content.
    """
    body = content if isinstance(content, bytes) else _encode(content)
    return Response(body, status, headers, media_type="application/json")


def status_of(error: Exception) -> int:
    """Return the HTTP status that tells whose fault an error is.

    Args:
        error: that a request led to.
    """
    if isinstance(error, HttpError):
        return error.status
    if isinstance(error, BusyError | StorageError):
        return 503
    if isinstance(error, DeadlineError):
        return 504
    if isinstance(error, msgspec.ValidationError):
        return 422
    if isinstance(error, msgspec.MsgspecError):
        return 400
    return 422 if isinstance(error, RetrankError) and isinstance(error, ValueError) else 500


def error_bytes(error: Exception, request_id: str | None = None) -> bytes:
    """Return an error as JSON; of an unexpected one, nothing but that it happened.

    Args:
        error: what to tell.
        request_id: by which the logs know the request.
    """
    status = status_of(error)
    name = {400: "BadRequest", 422: "Invalid", 500: "InternalError"}.get(status, "Error")
    details = ErrorDetails(name, "something went wrong; the logs say what")
    if isinstance(error, HttpError):
        details = ErrorDetails(name if status < 500 else "Error", error.message)
    elif isinstance(error, RetrankError) and status != 500:
        expected, got, where = (_short(text) for text in (error.expected, error.got, error.where))
        fix = UNSET if error.fix is None else _short(error.fix)
        details = ErrorDetails(
            type(error).__name__, f"{where}: expected {expected}, got {got}", where, expected, got, fix
        )
    elif isinstance(error, msgspec.MsgspecError):
        details = ErrorDetails(name, _short(str(error)))
    return _encode(ErrorAnswer(details, UNSET if request_id is None else request_id))


def error_reply(error: Exception, request_id: str | None = None) -> Response:
    """Return an error as a reply.

    Args:
        error: what to tell.
        request_id: by which the logs know the request.
    """
    status = status_of(error)
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    if status == 503:
        headers["retry-after"] = "1"
    return json_reply(error_bytes(error, request_id), status, headers)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
