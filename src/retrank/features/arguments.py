"""Checks of the arguments that several kinds share."""

import math
import sys
from typing import Final

from retrank.core.errors import ConfigError

__all__ = ["check_count", "check_nulls", "check_number"]

_FINITE: Final = sys.float_info.max


def check_count(value: int | None, name: str, where: str, *, least: int = 1) -> None:
    """Refuse a count that is not a Python integer, or too small.

    Args:
        value: the argument; None means that it was left out.
        name: its name.
        where: the kind it was given to.
        least: the smallest number allowed.

    Raises:
        ConfigError: another type, or too small.
    """
    given: object = value
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < least):
        raise ConfigError(f"an integer of at least {least}", f"{name}={given!r}", where, "give a plain integer")


def check_number(
    value: float | None, name: str, where: str, *, least: float = -math.inf, most: float = math.inf
) -> None:
    """Refuse a number that is not a Python number, not finite, too small or too large.

    Args:
        value: the argument; None means that it was left out.
        name: its name.
        where: the kind it was given to.
        least: the smallest number allowed.
        most: the largest number allowed.

    Raises:
        ConfigError: another type, NaN, infinity, too small or too large.
    """
    given: object = value
    if given is None:
        return
    lowest, highest = max(least, -_FINITE), min(most, _FINITE)  # NaN lies nowhere
    if isinstance(given, bool) or not isinstance(given, int | float) or not lowest <= given <= highest:
        limits = "" if least == -math.inf else f" of at least {least:g}"
        limits += "" if most == math.inf else f" and at most {most:g}"
        raise ConfigError(f"a finite number{limits}", f"{name}={given!r}", where)


def check_nulls(nulls: str, where: str) -> None:
    """Refuse a `nulls` argument that is neither of the two words.

    Args:
        nulls: the argument.
        where: the kind it was given to.

    Raises:
        ConfigError: another word.
    """
    if nulls not in ("error", "unknown"):
        raise ConfigError("nulls='error' or nulls='unknown'", repr(nulls), where, "use one of the two")
