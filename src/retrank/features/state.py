"""What a feature learned, in the form in which it is saved."""

from typing import Any, NamedTuple, final

import polars as pl

__all__ = ["State"]


@final
class State(NamedTuple):
    """What a feature learned.

    Args:
        values: JSON-able values by name.
        frames: tables by name, for what is too large for JSON.
    """

    values: dict[str, Any]
    frames: dict[str, pl.DataFrame]
