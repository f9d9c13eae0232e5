import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.data.events import EventLog
from retrank.data.recent_candidates import latest_candidates, with_recent_candidates

NAMES = {"query": "user", "candidate": "song", "time": "time"}
plays = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(0, 3)), max_size=25)


def table(rows):
    schema = {"user": pl.String, "song": pl.String, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@given(plays, st.integers(1, 4))
def test_lists_hold_what_was_strictly_before_and_nothing_else(rows, length):
    lists = with_recent_candidates(table(rows), length=length, **NAMES)["recent"].to_list()
    for i, (user, _, now) in enumerate(rows):
        before = sorted((t, j, song) for j, (u, song, t) in enumerate(rows) if u == user and t < now)
        assert lists[i] == [song for _, _, song in before][-length:]


@given(plays, st.integers(1, 4))
def test_lists_are_those_of_the_event_log(rows, length):
    every = table(rows)
    if every.is_empty():
        return
    log = EventLog(every, **NAMES)
    past = log.latest_before(torch.from_numpy(log.queries.find(every["user"])), every["time"], length)
    keys = log.candidates.keys
    assert with_recent_candidates(every, length=length, **NAMES)["recent"].to_list() == [
        [keys[place] for place in places] for places in past.to_lists()
    ]


@given(plays, st.integers(1, 4))
def test_the_latest_list_is_that_of_the_next_interaction(rows, length):
    latest = dict(latest_candidates(table(rows), length=length, **NAMES).rows())
    assert latest.keys() == {user for user, _, _ in rows}
    for user, songs in latest.items():
        following = with_recent_candidates(table([*rows, (user, "w", 9)]), length=length, **NAMES)
        assert following["recent"].to_list()[-1] == songs


def test_bad_input_is_refused():
    good = table([("a", "x", 1)])
    with pytest.raises(ConfigError, match="length"):
        with_recent_candidates(good, length=0, **NAMES)
    with pytest.raises(ConfigError, match="'song' exists"):
        with_recent_candidates(good, length=1, name="song", **NAMES)
    with pytest.raises(DataError, match="'tme'"):
        latest_candidates(good, length=1, query="user", candidate="song", time="tme")
    with pytest.raises(DataError, match="'time'.*row 1"):
        latest_candidates(table([("a", "x", 1), ("a", "x", None)]), length=1, **NAMES)
    with pytest.raises(ConfigError, match="'user' exists"):
        latest_candidates(good, length=1, name="user", **NAMES)


def test_names_of_other_columns_do_not_matter():
    rows = table([("a", "x", 2), ("a", "y", 1), ("b", "z", 1)])
    others = {name: pl.lit(0) for name in ("row number", "query", "candidate", "place")}
    expected = with_recent_candidates(rows, length=2, **NAMES)["recent"].to_list()
    wide = with_recent_candidates(rows.with_columns(**others), length=2, **NAMES)
    assert wide["recent"].to_list() == expected == [["y"], [], []]
    assert wide.columns == [*rows.columns, *others, "recent"]
    assert latest_candidates(rows.with_columns(**others), length=2, **NAMES).rows() == [("a", ["y", "x"]), ("b", ["z"])]


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_a_length_beyond_the_table_keeps_the_whole_past(num_rows):
    rows = table([("a", "x", 1), ("a", "y", 2), ("a", "z", 3)][:num_rows])
    recent = with_recent_candidates(rows, length=10**18, **NAMES)["recent"]
    assert recent.to_list() == [[], ["x"], ["x", "y"]][:num_rows]
    assert recent.dtype == pl.List(pl.String)


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Categorical, pl.Date])
def test_lists_have_the_type_of_the_candidates(dtype):
    songs = pl.Series("song", [3, 1, 2], dtype=pl.Int32)
    rows = pl.DataFrame({"user": [1, 2, 1], "time": [1.5, 0.5, 2.5]}).with_columns(
        songs.cast(pl.String).cast(dtype) if dtype == pl.Categorical else songs.cast(dtype)
    )
    recent = with_recent_candidates(rows, length=2, **NAMES)["recent"]
    assert recent.dtype == pl.List(dtype)
    assert recent.to_list() == [[], [], rows["song"][:1].to_list()]


def test_a_wide_window_costs_no_more_than_its_lists():
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"user": rng.permutation(20_000), "song": rng.integers(9, size=20_000)})
    rows = rows.with_row_index("time")
    recent = with_recent_candidates(rows, length=10**9, **NAMES)["recent"]  # a column per place would not fit
    assert recent.list.len().sum() == 0


@pytest.mark.parametrize("dtype", [pl.String, pl.Null, pl.Datetime, pl.Int64])
def test_a_table_without_rows_gets_the_column_whatever_its_types(dtype, tmp_path):
    names = {"query": "user", "candidate": "film", "time": "time"}
    (tmp_path / "empty.csv").write_text("user,film,time\n")
    empty = pl.DataFrame(schema={"user": pl.String, "film": pl.Int64, "time": dtype})
    for table in (empty, tmp_path / "empty.csv"):
        made = rr.data.with_recent_candidates(table, **names, length=2)
        assert made.columns == ["user", "film", "time", "recent"]
        assert rr.data.latest_candidates(table, **names, length=2).columns == ["user", "recent"]
        assert made.is_empty()
    assert rr.data.with_recent_candidates(empty, **names, length=2).schema["recent"] == pl.List(pl.Int64)
    with pytest.raises(rr.errors.DataError, match="column 'when'"):
        rr.data.with_recent_candidates(empty, **{**names, "time": "when"}, length=2)


def test_elsewhere_a_file_without_rows_is_called_empty(tmp_path):
    (tmp_path / "empty.csv").write_text("user,film,time\n")
    for use in (
        lambda table: rr.data.EventLog(table, query="user", candidate="film", time="time"),
        lambda table: rr.data.time_split(table, time="time", test_size=1),
        lambda table: rr.data.leave_last_split(table, query="user", time="time"),
        lambda table: rr.baselines.Popularity().fit(table),
        lambda table: rr.baselines.Popularity().fit(table, time="time"),
    ):
        with pytest.raises(rr.errors.DataError, match="at least one row, got an empty table"):
            use(tmp_path / "empty.csv")
