"""Every kind that emits ids refuses what is no key, and keys of another type than it was fitted on."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import DataError

F = rr.features
KEYS = {
    "string": ["a", "b"],
    "integer": [1, 2],
    "boolean": [True, False],
}
FLAT = {"categorical": F.Categorical, "hashed": lambda: F.Hashed(9), "counted": lambda: F.Categorical(max_size=5)}
LISTS = {"list": F.CategoricalList, "recent": lambda: F.Recent("key")}
NO_KEYS = {
    "floats": [1.0, 2.0],
    "bytes": [b"a"],
    "dates": [date(2024, 1, 1)],
    "datetimes": [datetime(2024, 1, 1)],
    "durations": [timedelta(1)],
    "structs": [{"a": 1}],
    "objects": pl.Series([object()], dtype=pl.Object),
}


def space_of(kind, keys):
    """A space with the kind under `x`, and the column it reads, lists where the kind wants lists."""
    column = [[key] for key in keys] if kind.emits == "lists of ids" else keys
    kinds = {"x": kind} if not isinstance(kind, F.Recent) else {"key": F.Categorical(), "x": kind}
    return rr.FeatureSpace(kinds), pl.DataFrame({"x": column, "key": keys})


@pytest.mark.parametrize("given", KEYS)
@pytest.mark.parametrize("fitted", KEYS)
@pytest.mark.parametrize("build", [*FLAT.values(), *LISTS.values()], ids=[*FLAT, *LISTS])
def test_keys_of_another_type_than_the_fitted_are_refused(build, fitted, given):
    space, table = space_of(build(), KEYS[fitted])
    space.fit(table)
    _, other = space_of(build(), KEYS[given])
    if fitted == given:
        assert len(space.transform(other, ["x"])) == 2
        return
    with pytest.raises(DataError, match=rf"column 'x': expected {fitted} keys, as it was fitted on, got {given} keys"):
        space.transform(other, ["x"])


@pytest.mark.parametrize("column", NO_KEYS.values(), ids=NO_KEYS)
@pytest.mark.parametrize("build", FLAT.values(), ids=FLAT)
def test_what_is_no_key_is_refused_at_fit_and_at_transform(build, column):
    table = pl.DataFrame({"x": column})
    with pytest.raises(DataError, match="column 'x'.*: expected (keys that are|scalars).*, got"):
        rr.FeatureSpace({"x": build()}).fit(table)
    space = rr.FeatureSpace({"x": build()}).fit(pl.DataFrame({"x": [1]}))
    with pytest.raises(DataError, match="column 'x': expected keys"):
        space.transform(table)


@pytest.mark.parametrize("column", [column for name, column in NO_KEYS.items() if name != "objects"])
def test_lists_of_what_is_no_key_are_refused(column):
    table = pl.DataFrame({"x": [column]})
    with pytest.raises(DataError, match="column 'x'.*: expected"):
        rr.FeatureSpace({"x": F.CategoricalList()}).fit(table)
    space = rr.FeatureSpace({"x": F.CategoricalList()}).fit(pl.DataFrame({"x": [[1]]}))
    with pytest.raises(DataError, match="column 'x': expected"):
        space.transform(table)


def test_floats_as_keys_say_where_they_come_from():
    with pytest.raises(DataError, match=r"Float64; cast the column to integers \(pandas makes floats"):
        rr.FeatureSpace({"x": F.Categorical()}).fit(pl.DataFrame({"x": [1.0, None]}))


@pytest.mark.parametrize("build", [F.Categorical, lambda: F.Hashed(9), F.Text], ids=["categorical", "hashed", "text"])
def test_lists_where_keys_are_meant_and_the_other_way(build):
    with pytest.raises(DataError, match="column 'x': expected .*got List"):
        rr.FeatureSpace({"x": build()}).fit(pl.DataFrame({"x": [["a"]]}))
    with pytest.raises(DataError, match="column 'x': expected lists of keys, got String"):
        rr.FeatureSpace({"x": F.CategoricalList()}).fit(pl.DataFrame({"x": ["a"]}))


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt32, pl.UInt64, pl.Int128])
def test_every_width_of_integers_is_one_type(dtype):
    space = rr.FeatureSpace({"x": F.Categorical()}).fit(pl.DataFrame({"x": [5, 7, 7]}))
    assert space.transform(pl.DataFrame({"x": pl.Series([7, 5, 9], dtype=dtype)}))["x"].tolist() == [2, 3, 1]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["a", "b", "c"])])
def test_every_type_of_text_is_one_type(dtype):
    space = rr.FeatureSpace({"x": F.Categorical(nulls="unknown")}).fit(pl.DataFrame({"x": ["a", "b", "b"]}))
    column = pl.Series(["b", "a", "c", None], dtype=dtype)
    assert space.transform(pl.DataFrame({"x": column}))["x"].tolist() == [2, 3, 1, 1]


NAIVE = datetime(2024, 1, 15, 20, 30)
ZONED = NAIVE.replace(tzinfo=UTC)
CLOCKS = {"naive": [NAIVE], "zoned": [ZONED], "numbers": [1_705_350_600]}


@pytest.mark.parametrize("given", CLOCKS)
@pytest.mark.parametrize("fitted", CLOCKS)
@pytest.mark.parametrize("part", ["hour", "weekday"])
def test_times_of_another_kind_than_the_fitted_are_refused(part, fitted, given, tmp_path):
    table, other = (pl.DataFrame({"t": CLOCKS[name]}) for name in (fitted, given))
    space = rr.FeatureSpace({"t": F.TimestampPart(part)}).fit(table)
    space.save(tmp_path / "space")
    for again in (space, rr.FeatureSpace.load(tmp_path / "space")):
        if fitted == given:
            assert again.transform(other)["t"].tolist() == [22 if part == "hour" else 2]
            continue
        with pytest.raises(DataError, match="column 't': expected .*, as it was fitted on, got"):
            again.transform(other)


def test_another_zone_is_read_in_the_fitted_one():
    space = rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(pl.DataFrame({"t": [ZONED]}))
    tokyo = pl.DataFrame({"t": pl.Series([ZONED]).dt.convert_time_zone("Asia/Tokyo")})
    assert space.transform(tokyo)["t"].tolist() == [20 + 2]
    assert rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(tokyo).transform(tokyo)["t"].tolist() == [5 + 2]


def test_dates_stand_for_datetimes_only_where_no_hour_is_asked_for():
    table, dates = pl.DataFrame({"t": [NAIVE]}), pl.DataFrame({"t": [NAIVE.date()]})
    space = rr.FeatureSpace({"t": F.TimestampPart("month")}).fit(table)
    assert space.transform(dates)["t"].tolist() == space.transform(table)["t"].tolist()
    with pytest.raises(DataError, match="dates, which have no hour"):
        rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(table).transform(dates)
    with pytest.raises(DataError, match="time zone UTC, as it was fitted on, got dates"):
        rr.FeatureSpace({"t": F.TimestampPart("month")}).fit(pl.DataFrame({"t": [ZONED]})).transform(dates)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_the_precision_of_datetimes_changes_nothing(unit):
    space = rr.FeatureSpace({"t": F.TimestampPart("minute")}).fit(pl.DataFrame({"t": [NAIVE]}))
    assert space.transform(pl.DataFrame({"t": pl.Series([NAIVE]).cast(pl.Datetime(unit))}))["t"].tolist() == [32]


def test_numbers_beyond_64_bits_are_no_times():
    column = pl.Series([0, 2**64 - 1], dtype=pl.UInt64)
    with pytest.raises(DataError, match=r"column 't', row 1: expected a time in the years 1 to 9999"):
        rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(pl.DataFrame({"t": column}))
    for column in ([True], ["2024-01-15"], [timedelta(1)], [[0]]):
        with pytest.raises(DataError, match="column 't': expected timestamps, got"):
            rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(pl.DataFrame({"t": column}))
        with pytest.raises(DataError, match="column 't': expected timestamps, got"):
            rr.FeatureSpace({"t": F.TimestampPart("hour")}).fit(pl.DataFrame({"t": [0]})).transform(
                pl.DataFrame({"t": column})
            )
