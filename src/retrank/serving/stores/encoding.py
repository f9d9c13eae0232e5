"""How keys and lists of numbers are written where a store has no type for them."""

import json
import struct
from collections.abc import Sequence
from typing import Any, Final, cast

from retrank.recommender.request import Key

__all__ = ["format_key", "format_values", "pack_floats", "parse_key", "parse_keys", "unpack_floats"]

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def format_key(key: Key) -> str:
    """Write a key as JSON, which keeps 7, "7" and True apart and has no NUL.

    Args:
        key: a string, an integer or a boolean.

    Returns:
        The same text for the same key.
    """
    return _ENCODER.encode(key)


def parse_key(text: str | bytes) -> Key:
    """Read what `format_key` has written.

    Args:
        text: JSON.

    Returns:
        The key.
    """
    return cast("Key", json.loads(text))


def format_values(values: Sequence[Any]) -> str:
    """Write a list of JSON, which keeps the types of keys apart.

    Args:
        values: strings, integers, booleans, finite floats, None, and lists of them.

    Returns:
        JSON without spaces.
    """
    return _ENCODER.encode(values)


def parse_keys(text: str | bytes) -> tuple[Key, ...]:
    """Read what `format_values` has written of keys.

    Args:
        text: JSON.

    Returns:
        The keys.
    """
    return tuple(json.loads(text))


def pack_floats(values: Sequence[float]) -> bytes:
    """Write numbers of 64 bits, the lowest byte first: a tenth of the work of writing them as text.

    Args:
        values: any floats.

    Returns:
        8 bytes a number.
    """
    return struct.pack(f"<{len(values)}d", *values)


def unpack_floats(content: bytes) -> tuple[float, ...]:
    """Read what `pack_floats` has written.

    Args:
        content: 8 bytes a number.

    Returns:
        The numbers.
    """
    return struct.unpack(f"<{len(content) // 8}d", content)
