"""Checks of arguments that are numbers."""

import math
import sys
from typing import Final

from retrank.core.errors import ConfigError

__all__ = ["check_count", "check_number"]

_FINITE: Final = sys.float_info.max


def check_count(value: int | None, name: str, where: str, *, least: int = 1) -> None:
    """Refuse a count that is not a Python integer, or too small.

    Args:
        value: the argument; None means that it was left out.
        name: its name.
        where: what it was given to.
        least: the smallest number allowed.

    Raises:
        ConfigError: another type, or too small.
    """
    given: object = value
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < least):
        raise ConfigError(f"an integer of at least {least}", f"{name}={given!r}", where)


def check_number(
    value: float | None,
    name: str,
    where: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    fix: str | None = None,
) -> None:
    """Refuse a number that is not a Python number, not finite, too small or too large.

    Args:
        value: the argument; None means that it was left out.
        name: its name.
        where: what it was given to.
        least: the smallest number allowed.
        above: what it must be greater than.
        most: the largest number allowed.
        fix: what to do about it.

    Raises:
        ConfigError: another type, NaN, infinity, too small or too large.
    """
    given: object = value
    if given is None:
        return
    lowest, highest = max(least, -_FINITE), min(most, _FINITE)  # NaN lies nowhere
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not lowest <= given <= highest or given <= above:  # type: ignore[operator]
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("of at least", least), ("above", above), ("at most", most))
            if math.isfinite(limit)
        ]
        raise ConfigError(f"a finite number {' and '.join(limits)}".rstrip(), f"{name}={given!r}", where, fix)
