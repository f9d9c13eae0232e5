"""JSON that came from a file: parsed within limits, and checked against the types that its reader expects."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from retrank.core.errors import ConfigError, MissingExtraError, StorageError

__all__ = ["built_from", "checked", "format_json", "parse_json"]

Value = TypeVar("Value")

_MAX_DEPTH: Final = 100  # readers recurse, a few frames a level
_MAX_DIGITS: Final = 20  # of an integer, as in 2**64; sign not counted


def parse_json(content: bytes, where: str) -> Any:
    """Parse JSON whose numbers are finite and fit in 64 bits, and whose lists and objects are not nested too deeply.

    Args:
        content: UTF-8 text.
        where: the file, for messages.

    Returns:
        What it holds.

    Raises:
        StorageError: other content.
    """
    try:
        value = json.loads(
            content.decode(), parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_short_integer
        )
        _check_depth(value)
    except (ValueError, RecursionError, MemoryError) as error:
        raise StorageError("a JSON file", f"{type(error).__name__}: {error}", where, "write it anew") from error
    return value


def format_json(content: Any, where: str) -> str:
    """Write JSON, indented and with keys in the given order, that `parse_json` reads back.

    Args:
        content: dicts, lists, strings, finite numbers, booleans and None.
        where: the file, for messages.

    Returns:
        The text.

    Raises:
        ConfigError: other content.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        parse_json(text.encode(), where)
    except (ValueError, TypeError, RecursionError, StorageError) as error:
        raise ConfigError(
            "finite numbers, strings, lists and dicts, as JSON knows them", str(error), where, "keep plain values"
        ) from error
    return text


def checked(value: Any, kind: type[Value], where: str) -> Value:
    """Require that a parsed value is of a type.

    Args:
        value: what `parse_json` returned.
        kind: a TypedDict or any other type that pydantic knows; nothing is converted.
        where: the file, for messages.

    Returns:
        The value.

    Raises:
        StorageError: something missing, unknown or of another type; the message names its place in the file.

    Example:
        >>> from retrank.core.values import checked
        >>> checked({"steps": ["7"]}, dict[str, list[int]], "run.json")
        Traceback (most recent call last):
        retrank.core.errors.StorageError: run.json, steps.0: expected ...
    """
    key: Any = kind
    try:
        return cast("Value", _adapter(key).validate_python(value, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        got = repr(first["input"])[:80] if first["type"] != "missing" else "nothing"
        raise StorageError(
            _as_noun(first["msg"]), got, f"{where}, {place}" if place else where, "the file is damaged: restore it"
        ) from error


@contextmanager
def built_from(where: str) -> Iterator[None]:
    """Report whatever fails while objects are built from a file's content as a fault of the file.

    Readers check what they can; this is for what only the constructors and libraries that they call can know.

    Args:
        where: the file.

    Yields:
        Nothing.

    Raises:
        StorageError: in place of any other error; one that names the file already and a missing extra pass unchanged.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except StorageError as error:
        if where in error.where:
            raise
        raise _unusable(error, where) from error
    except BaseException as error:
        # Rust libraries raise their panics as PanicException, which is no Exception, and each has one of its own.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _unusable(error, where) from error


def _unusable(error: BaseException, where: str) -> StorageError:
    return StorageError(
        "content that can be used here", f"{type(error).__name__}: {error}", where, "restore the file, or write it anew"
    )


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _as_noun(message: str) -> str:
    """Turn pydantic's "Input should be a valid integer" into what fits behind "expected"."""
    return message.removeprefix("Input should be ").removeprefix("Value should be ")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        if not inner:
            return
        level = [item for container in inner for item in container]
    raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _short_integer(text: str) -> int:
    if len(text) > _MAX_DIGITS + 1:
        raise ValueError(f"{text[:40]}... is too large")
    return int(text)
