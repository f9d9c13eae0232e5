"""Parts of a timestamp as ids: hour, weekday, month and others that come around."""

from typing import ClassVar, Final, Literal, cast, final, get_args

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID, ColumnSchema
from retrank.data.keys import Nulls, check_nulls, holds_nothing
from retrank.features.kinds import Emits, Feature
from retrank.features.state import State
from retrank.features.statistics import Agreement, Summary

__all__ = ["Part", "TimestampPart", "Unit"]

Part = Literal["minute", "hour", "weekday", "hour_of_week", "day", "month", "quarter"]
"""What to take of a timestamp; weeks begin on Monday."""
Unit = Literal["s", "ms", "us", "ns"]
"""What an integer timestamp counts since 1970-01-01 00:00 UTC."""

_TIME: Final = pl.col("time")
_PARTS: Final[dict[Part, tuple[int, pl.Expr]]] = {
    "minute": (60, _TIME.dt.minute()),
    "hour": (24, _TIME.dt.hour()),
    "weekday": (7, _TIME.dt.weekday() - 1),
    "hour_of_week": (7 * 24, (_TIME.dt.weekday().cast(pl.Int64) - 1) * 24 + _TIME.dt.hour()),
    "day": (31, _TIME.dt.day() - 1),
    "month": (12, _TIME.dt.month() - 1),
    "quarter": (4, _TIME.dt.quarter() - 1),
}
_NAIVE: Final = "no zone"
_NUMBERS: Final = "numbers"
_KINDS: Final = {_NAIVE: "dates or datetimes without a time zone", _NUMBERS: "numbers since 1970"}
_PER_SECOND: Final[dict[Unit, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEAR_0001: Final = -62_135_596_800
_YEAR_9999: Final = 253_402_300_799


@final
class TimestampPart(Feature):
    """A part of a timestamp as an id: 2 is the first value of the part (minute 0, Monday, the 1st, January).

    Numbers count from 1970 in UTC. Dates and datetimes are taken as they read: a datetime with a time zone in the zone
    of the fitted column, one without as it is. Fitting learns which of the three the column holds; the others are
    refused from then on, for the same number would be another hour.

    Args:
        part: "minute" (of the hour), "hour", "weekday", "hour_of_week", "day" (of the month), "month" or "quarter".
        unit: what a number counts: "s", "ms", "us" or "ns". Dates and datetimes do not need it.
        nulls: "error" refuses nulls and NaN, "unknown" gives them id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: an unknown part or unit.

    Example:
        >>> import polars as pl, retrank as rr
        >>> clicks = pl.DataFrame({"time": [0, 3600, 86_400]})          # 1970-01-01 was a Thursday
        >>> space = rr.FeatureSpace({"hour": rr.features.TimestampPart("hour", column="time"),
        ...                          "weekday": rr.features.TimestampPart("weekday", column="time")}).fit(clicks)
        >>> space.transform(clicks)["hour"].tolist(), space.transform(clicks)["weekday"].tolist()
        ([2, 3, 2], [5, 5, 6])
    """

    emits: ClassVar[Emits] = "ids"

    def __init__(self, part: Part, *, unit: Unit = "s", nulls: Nulls = "error", column: str | None = None) -> None:
        super().__init__(column)
        if part not in _PARTS or unit not in _PER_SECOND:
            words = f"a part of {get_args(Part)} and a unit of {get_args(Unit)}"
            raise ConfigError(words, f"part={part!r}, unit={unit!r}", "TimestampPart")
        check_nulls(nulls, "TimestampPart")
        self.part, self.unit, self.nulls = part, unit, nulls
        self._clock: str | None = None  # a zone, _NAIVE or _NUMBERS; None where the fitted column had only nulls

    def _times(self, values: pl.Series) -> pl.Series:
        """Return dates or datetimes, checked."""
        times = values.fill_nan(None) if values.dtype.is_float() else values
        if holds_nothing(times):
            times = pl.Series(times.name, [None] * len(times), dtype=pl.Datetime("us"))
        if self.nulls == "error" and times.null_count():
            row, fix = int(times.is_null().arg_max() or 0), "drop the row, or use nulls='unknown'"
            raise DataError("a timestamp", "null or NaN", f"column '{values.name}'", fix, row=row)
        if isinstance(times.dtype, pl.Date | pl.Datetime):
            if isinstance(times.dtype, pl.Date) and self.part in ("minute", "hour", "hour_of_week"):
                fix = "take a part of the date, or give datetimes"
                raise DataError("datetimes", "dates, which have no hour", f"column '{values.name}'", fix)
            return times
        if not (times.dtype.is_numeric() or times.dtype == pl.Null):
            fix = "parse it first, e.g. with str.to_datetime()"
            raise DataError("timestamps", str(values.dtype), f"column '{values.name}'", fix)
        return self._from_epoch(times)

    def _from_epoch(self, times: pl.Series) -> pl.Series:
        counts = times.cast(pl.Int64 if times.dtype.is_integer() else pl.Float64, strict=False)
        seconds = counts // _PER_SECOND[self.unit]
        first, last = cast("float | None", seconds.min()), cast("float | None", seconds.max())
        beyond = counts.null_count() > times.null_count()  # beyond 64 bits, as an unsigned integer may be
        if beyond or (first is not None and last is not None and (first < _YEAR_0001 or last > _YEAR_9999)):
            inside = (seconds >= _YEAR_0001) & (seconds <= _YEAR_9999)
            row = int((times.is_not_null() & ~inside.fill_null(False)).arg_max() or 0)
            expected, where = f"a time in the years 1 to 9999, in '{self.unit}'", f"column '{times.name}'"
            raise DataError(expected, str(times[row]), where, "another unit= may fit", row=row)
        return (seconds.cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us"))

    def _on_fitted_clock(self, values: pl.Series) -> pl.Series:
        clock = _clock(values.dtype)
        if self._clock is None or clock is None or clock == self._clock or holds_nothing(values):
            return values
        if not {clock, self._clock} & {_NAIVE, _NUMBERS}:
            return values.dt.convert_time_zone(self._clock)
        expected, got = (_KINDS.get(kind, f"datetimes in the time zone {kind}") for kind in (self._clock, clock))
        raise DataError(f"{expected}, as it was fitted on", f"{got} ({values.dtype})", f"column '{values.name}'")

    def summarize(self, values: pl.Series) -> Agreement:
        """Check the timestamps and tell what they count from; see `Feature.summarize`."""
        self._times(values)
        clock = _clock(values.dtype)
        return Agreement(None if clock == _NUMBERS and holds_nothing(values) else clock)

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Keep what the timestamps count from; see `Feature.learn`."""
        assert isinstance(summary, Agreement)
        self._clock = summary.fact

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002
        """Turn timestamps into `(rows,)` int64 ids; see `Feature.transform`."""
        times = self._times(self._on_fitted_clock(values)).alias("time")
        places = times.to_frame().select(_PARTS[self.part][1].cast(pl.Int64) + NUM_SPECIAL_IDS).to_series()
        return torch.from_numpy(places.fill_null(UNKNOWN_ID).to_numpy(writable=True))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", num_ids=_PARTS[self.part][0] + NUM_SPECIAL_IDS)

    def state(self) -> State:
        """Return what the timestamps count from; see `Feature.state`."""
        return State({"clock": self._clock}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over what the timestamps count from; see `Feature.load_state`."""
        clock = state.values.get("clock")  # a space of an earlier version has none, and takes every column
        if clock is not None and not isinstance(clock, str):
            raise StorageError("a time zone, or None", repr(clock), where)
        self._clock = clock


def _clock(dtype: pl.DataType) -> str | None:
    """Say what times of a type count from: a zone's midnight, any midnight, or 1970; None for other types."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return dtype.time_zone
    if isinstance(dtype, pl.Date | pl.Datetime):
        return _NAIVE
    return _NUMBERS if dtype.is_numeric() else None
