"""Times of events: what clients send, what the store keeps, and what the history of a bundle has."""

import datetime as dt
import math
from typing import Final, final

import polars as pl

from retrank.core.errors import DataError
from retrank.data.events import EventLog

__all__ = ["HistoryClock", "microseconds"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_UNITS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NOW: Final = {"s": 10**9, "ms": 10**12, "us": 10**15}  # what a time of our days is like in each unit
_LATEST: Final = 253_402_300_800_000_000  # the year 10000, in microseconds


def microseconds(time: float | str) -> int:
    """Read a time that a client sent.

    Args:
        time: seconds since 1970, or text in ISO 8601; without a zone it is UTC.

    Returns:
        Microseconds since 1970.

    Raises:
        DataError: something else, or a time before 1970 or after the year 9999.

    Example:
        >>> from retrank.serving.event_times import microseconds
        >>> microseconds(1.5), microseconds("1970-01-01T00:00:02Z")
        (1500000, 2000000)
    """
    expected, where = "seconds since 1970 or text such as 2026-01-31T12:00:00Z", "time of an event"
    if isinstance(time, str):
        try:
            read = dt.datetime.fromisoformat(time)
            found = ((read if read.tzinfo else read.replace(tzinfo=dt.UTC)) - _EPOCH) // _MICROSECOND
        except (ValueError, OverflowError) as error:
            raise DataError(expected, repr(time[:64]), where) from error
    else:
        found = round(time * 1_000_000) if math.isfinite(time) else -1
    if not 0 <= found < _LATEST:
        raise DataError(expected, repr(time), where)
    return found


@final
class HistoryClock:
    """Writes times as the history of a bundle has them.

    A history of dates or datetimes takes any time. In one of plain numbers they are seconds, milliseconds or
    microseconds since 1970 if its latest event looks like one of our days in that unit; otherwise nobody knows what
    they are, and an event gets the latest number that there is.

    Args:
        events: the history.

    Example:
        >>> import polars as pl, retrank as rr
        >>> from retrank.serving.event_times import HistoryClock
        >>> plays = pl.DataFrame({"user": ["a"], "song": ["x"], "time": [1_700_000_000]})
        >>> clock = HistoryClock(rr.data.EventLog(plays, query="user", candidate="song", time="time"))
        >>> clock.column([1_800_000_000_500_000]).to_list()
        [1800000000]
    """

    def __init__(self, events: EventLog) -> None:
        self._name, self._type = events.time, events.time_type
        self._latest: float = 0
        if self._type is not None and self._type.is_numeric():
            times = events.codes()[2]
            self._latest = 0 if times is None or not len(times) else times.max()  # type: ignore[assignment]
        self.unit = self._unit()

    def column(self, times: list[int]) -> pl.Series | None:
        """Return the times of events as the column of a history; None if it has no times.

        Args:
            times: `(n,)` microseconds since 1970.
        """
        if self._name is None or self._type is None:
            return None
        if not self._type.is_numeric():
            known = pl.Series(self._name, times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
            if isinstance(self._type, pl.Datetime) and self._type.time_zone is not None:
                return known.dt.convert_time_zone(self._type.time_zone).cast(self._type)
            return known.dt.replace_time_zone(None).cast(self._type)
        if self.unit is None:
            return pl.Series(self._name, [self._latest] * len(times), dtype=self._type)
        divisor = _UNITS[self.unit]
        if self._type.is_float():
            return pl.Series(self._name, [time / divisor for time in times], dtype=self._type)
        return pl.Series(self._name, [time // divisor for time in times], dtype=self._type)

    def _unit(self) -> str | None:
        fitting = [unit for unit, now in _NOW.items() if now / 4 <= float(self._latest) <= now * 4]
        return fitting[0] if fitting else None
