"""`warn_once`: warnings that are said once a process."""

import warnings

from retrank.core.errors import RetrankWarning

__all__ = ["forget_warnings", "warn_once"]

_given: set[str] = set()


def warn_once(message: str, *, stacklevel: int = 2) -> None:
    """Give a `RetrankWarning` unless the same text was given before.

    Python's own "once a location" does not hold here: every `warnings.catch_warnings`, which torch enters all the
    time, makes it forget what it has shown.

    Args:
        message: the text.
        stacklevel: as in `warnings.warn`, counted from the caller.

    Example:
        >>> import warnings, retrank as rr
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     for message in ("3 rows are left out", "3 rows are left out", "4 rows are left out"):
        ...         rr.core.notices.warn_once(message)
        >>> len(caught)
        2
    """
    if message not in _given:
        warnings.warn(message, RetrankWarning, stacklevel=stacklevel + 1)
        _given.add(message)  # not if a filter has made it an error


def forget_warnings() -> None:
    """Give every warning again, as in a new process."""
    _given.clear()
