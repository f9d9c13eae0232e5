"""How keys and lists of numbers are written where a store has no type for them."""

import json
import struct
from collections.abc import Sequence

from retrank.recommender.request import Key

__all__ = ["format_keys", "pack_floats", "parse_keys", "unpack_floats"]


def format_keys(keys: Sequence[Key]) -> str:
    """Write keys as a list of JSON, which keeps their types apart.

    Args:
        keys: strings, integers and booleans.

    Returns:
        JSON without spaces.
    """
    return json.dumps(keys, ensure_ascii=False, separators=(",", ":"))


def parse_keys(text: str | bytes) -> tuple[Key, ...]:
    """Read what `format_keys` has written.

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
