"""Keys in the paths of requests, where everything is text."""

from typing import Literal

from retrank.core.errors import DataError
from retrank.data.keys import KeyType
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key

__all__ = ["Kind", "key_in_path"]

Kind = Literal["candidate", "query"]


def key_in_path(recommender: Recommender, text: str, kind: Kind) -> Key:
    """Read the key in a path.

    Args:
        recommender: whose keys.
        text: as it is in the path.
        kind: what the key is of.

    Returns:
        The key, of the type that the recommender knows.

    Raises:
        DataError: the text is no key of that type.
    """
    expected: KeyType = recommender.catalogue.key_type if kind == "candidate" else recommender.queries.key_type
    if expected == "string":
        return text
    if expected == "boolean":
        if text not in ("true", "false"):
            raise DataError("true or false", repr(text[:64]), f"key of a {kind}")
        return text == "true"
    if not text.removeprefix("-").isdecimal() or len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise DataError("an integer key", repr(text[:64]), f"key of a {kind}")
    return int(text)
