import datetime as dt
import hashlib
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.plain_json import to_json
from retrank.serving.event_times import HistoryClock, microseconds
from retrank.serving.json_values import from_json, row_from_json
from retrank.serving.keys import digest_of, is_known_key, new_key, read_key_hashes


@pytest.mark.parametrize("time", ["soon", "", -1.0, float("inf"), float("nan"), 1e15, "0001-01-01", "1969-12-31"])
def test_times_that_are_none_are_refused(time):
    with pytest.raises(rr.errors.DataError, match="time of an event"):
        microseconds(time)


@given(st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(9000, 1, 1)))
def test_text_and_seconds_tell_the_same_time(time):
    aware = time.replace(tzinfo=dt.UTC)
    expected = (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    assert microseconds(aware.isoformat()) == expected
    assert microseconds(time.isoformat()) == microseconds(aware.isoformat())
    assert abs(microseconds(aware.timestamp()) - expected) <= 64  # a double has no more digits


def clock(times):
    table = pl.DataFrame({"user": ["a"] * len(times), "song": ["x"] * len(times), "time": times})
    return HistoryClock(rr.data.EventLog(table, query="user", candidate="song", time="time"))


NOW = 1_790_000_000_123_456


@pytest.mark.parametrize(
    ("times", "written"),
    [
        (pl.Series([1_700_000_000]), 1_790_000_000),
        (pl.Series([893_286_638], dtype=pl.Int32), 1_790_000_000),
        (pl.Series([1_700_000_000_000]), 1_790_000_000_123),
        (pl.Series([1_700_000_000_000_000]), NOW),
        (pl.Series([1.7e9]), 1_790_000_000.123456),
        (pl.Series([3, 17]), 17),
        (pl.Series([dt.date(2020, 1, 1)]), dt.date(2026, 9, 21)),
        (pl.Series([dt.datetime(2020, 1, 1)]), dt.datetime(2026, 9, 21, 14, 13, 20, 123456)),
        (
            pl.Series([dt.datetime(2020, 1, 1)], dtype=pl.Datetime("ms", "Europe/Rome")),
            dt.datetime(2026, 9, 21, 14, 13, 20, 123000, tzinfo=dt.UTC),
        ),
    ],
)
def test_a_time_is_written_as_the_history_has_it(times, written):
    column = clock(times).column([NOW])
    assert column.dtype == times.dtype
    assert column.to_list() == [written]


def test_a_history_without_times_gets_none():
    log = rr.data.EventLog(pl.DataFrame({"user": ["a"], "song": ["x"]}), query="user", candidate="song")
    assert HistoryClock(log).column([NOW]) is None


SCHEMA = {
    "name": pl.String(), "year": pl.Int16(), "size": pl.Float64(), "is_new": pl.Boolean(), "day": pl.Date(),
    "at": pl.Datetime("us", "UTC"), "tags": pl.List(pl.String),
}  # fmt: skip
ROW = {
    "name": "é", "year": 1999, "size": 2.5, "is_new": True, "day": "2020-02-01", "at": "2020-02-01T10:00:00+01:00",
    "tags": ["a", "b"],
}  # fmt: skip


def test_a_row_is_read_as_the_table_has_it_and_written_back():
    row = row_from_json(ROW, SCHEMA, "item")
    assert row.schema == SCHEMA
    assert row["at"][0] == dt.datetime(2020, 2, 1, 9, tzinfo=dt.UTC)
    written = json.loads(json.dumps(to_json(row.row(0, named=True))))
    assert written == {**ROW, "at": "2020-02-01T09:00:00+00:00"}
    assert row_from_json({}, SCHEMA, "item").null_count().row(0) == (1,) * len(SCHEMA)
    assert row_from_json({"size": 3}, SCHEMA, "item")["size"].to_list() == [3.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 7), ("name", True), ("name", ["a"]), ("year", "1999"), ("year", 1999.5), ("year", 99_999),
        ("year", True), ("size", "2"), ("size", False), ("is_new", 1), ("is_new", "true"), ("day", "tomorrow"),
        ("day", 7), ("at", "noon"), ("tags", "a"), ("tags", [1]), ("tags", [["a"]]), ("size", 10**400), ("what", 1),
    ],
)  # fmt: skip
def test_a_value_that_a_column_cannot_hold_is_refused(name, value):
    with pytest.raises(rr.errors.DataError, match=name):
        row_from_json({name: value}, SCHEMA, "item")


def test_dates_within_lists_are_read():
    assert from_json(["2020-01-01"], pl.List(pl.Date), "x") == [dt.date(2020, 1, 1)]


def test_what_json_cannot_have_is_null():
    assert to_json([float("nan"), float("inf"), None, {"a": dt.date(2020, 1, 1)}]) == [
        None,
        None,
        None,
        {"a": "2020-01-01"},
    ]


def test_keys_are_known_by_their_digests(tmp_path):
    key, other = new_key(), new_key()
    assert key != other
    assert digest_of(key) == hashlib.sha256(key.encode()).hexdigest()
    file = tmp_path / "keys"
    file.write_text(f"# comment\n\n{digest_of(key).upper()} the shop\n{digest_of('another')}\n")
    digests = read_key_hashes(file)
    assert is_known_key(key, digests)
    assert not is_known_key(other, digests)
    assert not is_known_key("", digests)


@pytest.mark.parametrize("text", ["secret", "rk_plain key", "", "# nothing", "0" * 63])
def test_a_file_without_digests_is_refused(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(rr.errors.ConfigError, match="keys"):
        read_key_hashes(file)
    with pytest.raises(rr.errors.StorageError, match="nowhere"):
        read_key_hashes(tmp_path / "nowhere")
