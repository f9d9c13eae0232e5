"""Parts of a timestamp as ids: hour, weekday, month and others that come around."""

from typing import ClassVar, Final, Literal, cast, final, get_args

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID, ColumnSchema
from retrank.data.keys import Nulls
from retrank.features.arguments import check_nulls
from retrank.features.kinds import Emits, Feature
from retrank.features.statistics import Agreement

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
_PER_SECOND: Final[dict[Unit, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEAR_0001: Final = -62_135_596_800
_YEAR_9999: Final = 253_402_300_799


@final
class TimestampPart(Feature):
    """A part of a timestamp as an id: 2 is the first value of the part (minute 0, Monday, the 1st, January).

    Numbers count from 1970 in UTC. Dates and datetimes are taken as they read: a datetime with a time zone in that
    zone, one without as it is.

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
            raise ConfigError(words, f"part={part!r}, unit={unit!r}", "TimestampPart", "use one of them")
        check_nulls(nulls, "TimestampPart")
        self.part, self.unit, self.nulls = part, unit, nulls

    def _times(self, values: pl.Series, first_row: int) -> pl.Series:
        """Return dates or datetimes, checked."""
        times = values.fill_nan(None) if values.dtype.is_float() else values
        if self.nulls == "error" and times.null_count():
            row = first_row + int(times.is_null().arg_max() or 0)
            where, fix = f"column '{values.name}', row {row}", "drop the row, or use nulls='unknown'"
            raise DataError("a timestamp", "null or NaN", where, fix)
        if isinstance(times.dtype, pl.Date | pl.Datetime):
            if isinstance(times.dtype, pl.Date) and self.part in ("minute", "hour", "hour_of_week"):
                fix = "take a part of the date, or give datetimes"
                raise DataError("datetimes", "dates, which have no hour", f"column '{values.name}'", fix)
            return times
        if not (times.dtype.is_numeric() or times.dtype == pl.Null):
            fix = "parse it first, e.g. with str.to_datetime()"
            raise DataError("timestamps", str(values.dtype), f"column '{values.name}'", fix)
        return self._from_epoch(times, first_row)

    def _from_epoch(self, times: pl.Series, first_row: int) -> pl.Series:
        seconds = times.cast(pl.Float64 if times.dtype.is_float() else pl.Int64) // _PER_SECOND[self.unit]
        first, last = cast("float | None", seconds.min()), cast("float | None", seconds.max())
        if first is not None and last is not None and (first < _YEAR_0001 or last > _YEAR_9999):
            outside = ((seconds < _YEAR_0001) | (seconds > _YEAR_9999)).fill_null(False)
            row = int(outside.arg_max() or 0)
            where = f"column '{times.name}', row {first_row + row}"
            raise DataError(f"a time in the years 1 to 9999, in '{self.unit}'", str(times[row]), where, "check unit=")
        return (seconds.cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us"))

    def summarize(self, values: pl.Series, *, first_row: int = 0) -> Agreement:
        """Check the timestamps; see `Feature.summarize`."""
        self._times(values, first_row)
        return Agreement()

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002
        """Turn timestamps into `(rows,)` int64 ids; see `Feature.transform`."""
        times = self._times(values, 0).alias("time")
        places = times.to_frame().select(_PARTS[self.part][1].cast(pl.Int64) + NUM_SPECIAL_IDS).to_series()
        return torch.from_numpy(places.fill_null(UNKNOWN_ID).to_numpy(writable=True))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", num_ids=_PARTS[self.part][0] + NUM_SPECIAL_IDS)
