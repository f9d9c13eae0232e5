"""`read_json`: the body of a request as a message."""

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from retrank.serving.replies import HttpError

__all__ = ["read_json"]

Sent = TypeVar("Sent")


async def read_json(request: Request, decode: Callable[[bytes], Sent]) -> Sent:
    """Read the body of a request.

    Args:
        request: whose body it is.
        decode: reads JSON strictly; of msgspec.

    Returns:
        What was sent.

    Raises:
        HttpError: it is not said to be JSON, is no text, or is nested too deeply.
        MsgspecError: it is no JSON, or another message.
    """
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HttpError(415, "send JSON, with the header 'content-type: application/json'")
    content = await request.body()
    try:
        return decode(content)
    except UnicodeDecodeError as error:  # msgspec reports everything else itself
        raise HttpError(400, f"JSON whose text is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise HttpError(400, "JSON that is nested too deeply") from error
