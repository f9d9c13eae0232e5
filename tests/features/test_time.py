import math
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError

F = rr.features
PARTS = {
    "minute": lambda t: t.minute,
    "hour": lambda t: t.hour,
    "weekday": lambda t: t.weekday(),
    "hour_of_week": lambda t: t.weekday() * 24 + t.hour,
    "day": lambda t: t.day - 1,
    "month": lambda t: t.month - 1,
    "quarter": lambda t: (t.month - 1) // 3,
}
SIZES = {"minute": 60, "hour": 24, "weekday": 7, "hour_of_week": 168, "day": 31, "month": 12, "quarter": 4}
FACTORS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def ids(column, part="hour", **arguments):
    table = pl.DataFrame({"t": column})
    return rr.FeatureSpace({"t": F.TimestampPart(part, **arguments)}).fit(table).transform(table)["t"].tolist()


@pytest.mark.parametrize("part", PARTS)
@given(st.lists(st.integers(-(2**32), 2**32), min_size=1, max_size=10), st.sampled_from(list(FACTORS)))
def test_parts_are_those_of_the_calendar(part, seconds, unit):
    times = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in seconds]
    expected = [PARTS[part](time) + 2 for time in times]
    assert ids([second * FACTORS[unit] + FACTORS[unit] - 1 for second in seconds], part, unit=unit) == expected
    assert ids([time.replace(tzinfo=None) for time in times], part) == expected
    assert ids([second + 0.5 for second in seconds], part) == expected
    space = rr.FeatureSpace({"t": F.TimestampPart(part)}).fit(pl.DataFrame({"t": [0]}))
    assert space.schema["t"].num_ids == SIZES[part] + 2


def test_a_time_zone_is_read_as_it_reads():
    noon = pl.Series([datetime(2024, 7, 1, 12, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo")
    assert ids(noon) == [21 + 2]


def test_dates_have_days_but_no_hours():
    assert ids([date(2024, 12, 25)], "month") == [11 + 2]
    with pytest.raises(DataError, match=r"column 't'.*dates, which have no hour"):
        ids([date(2024, 12, 25)], "hour")


def test_nulls_and_nan():
    for bad in (None, math.nan):
        with pytest.raises(DataError, match=r"column 't', row 1: expected a timestamp"):
            ids([0.0, bad])
        assert ids([0.0, bad], nulls="unknown") == [2, 1]
    assert ids([datetime(1970, 1, 1), None], nulls="unknown") == [2, 1]


def test_a_wrong_unit_is_noticed():
    with pytest.raises(
        DataError, match=r"column 't', row 1: expected a time in the years 1 to 9999, in 's'.*another unit="
    ):
        ids([0, 1_700_000_000_000])
    with pytest.raises(DataError, match="row 0"):
        ids([math.inf])
    with pytest.raises(DataError, match=r"column 't': expected timestamps, got String"):
        ids(["2024-01-01"])


def test_bad_arguments_are_refused():
    for build in (lambda: F.TimestampPart("year"), lambda: F.TimestampPart("hour", unit="min")):
        with pytest.raises(ConfigError, match="TimestampPart"):
            build()
