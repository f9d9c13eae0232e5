"""`EventLog` against a list of tuples, whatever the order of the table and however the events came in."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.data.event_times import time_column

NAMES = {"query": "user", "candidate": "song"}
users, songs = st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["v", "w", "x", "y", "z"])
events = st.lists(st.tuples(users, songs, st.integers(-3, 6)), max_size=25)


def table(rows):
    return pl.DataFrame(rows, schema={"user": pl.String, "song": pl.String, "time": pl.Int64}, orient="row")


def past(rows, user, before=None):
    """The oracle: a query's songs by time, rows of equal times in their order."""
    mine = [row for row in rows if row[0] == user and (before is None or row[2] < before)]
    return [song for _, song, _ in sorted(mine, key=lambda row: row[2])]


def keys_of(log, lists):
    return [log.candidates.keys.gather(row).to_list() for row in lists.to_lists()]


def places_of(log, wanted):
    return torch.from_numpy(log.queries.find(pl.Series(wanted, dtype=pl.String)))


@given(rows=events, cuts=st.lists(st.integers(0, 25), max_size=3), length=st.integers(1, 4))
def test_it_holds_what_a_list_of_tuples_holds(rows, cuts, length):
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    log = rr.data.EventLog(table(rows[: edges[1]]), time="time", **NAMES)
    for first, last in itertools.pairwise(edges[1:]):
        log = log.with_events(table(rows[first:last]))
    asked = ["b", "nobody", "a", "c", "d", "a"]
    places = places_of(log, asked)
    assert keys_of(log, log.events(places)) == [past(rows, user) for user in asked]
    assert keys_of(log, log.latest(places, length)) == [past(rows, user)[-length:] for user in asked]
    assert all(keys_of(log, log.events(places[i : i + 1])) == [past(rows, asked[i])] for i in range(len(asked)))
    times = pl.Series([0, 1, 2, 3, 4, 9])
    expected = [past(rows, user, before)[-length:] for user, before in zip(asked, times, strict=True)]
    assert keys_of(log, log.latest_before(places, times, length)) == expected
    assert len(log) == len(rows)
    assert sorted(log.table().rows()) == sorted(rows)


@given(rows=events, cut=st.integers(0, 25))
def test_pairs_and_counts_are_distinct_also_after_more_events(rows, cut):
    log = rr.data.EventLog(table(rows[:cut]), time="time", **NAMES)
    assert log.num_queries_of.sum() == len({row[:2] for row in rows[:cut]})
    log = log.with_events(table(rows[cut:]))
    query, candidate = log.pairs()
    pairs = list(zip(log.queries.keys.gather(query), log.candidates.keys.gather(candidate), strict=True))
    assert sorted(pairs) == sorted({row[:2] for row in rows})
    counts = dict(zip(log.candidates.keys, log.num_queries_of.tolist(), strict=True))
    assert counts == {song: len({u for u, s, _ in rows if s == song}) for song in {row[1] for row in rows}}


@given(rows=events)
def test_latest_before_the_time_of_a_row_never_holds_the_row_nor_anything_later(rows):
    """What a model is trained on must not contain its label, nor anything of the same moment."""
    log = rr.data.EventLog(
        table([(user, f"{song}{i}", at) for i, (user, song, at) in enumerate(rows)]), time="time", **NAMES
    )
    places = places_of(log, [row[0] for row in rows])
    lists = keys_of(log, log.latest_before(places, pl.Series([row[2] for row in rows], dtype=pl.Int64)))
    when = {f"{song}{i}": at for i, (_, song, at) in enumerate(rows)}
    assert all(when[song] < at for (_, _, at), songs in zip(rows, lists, strict=True) for song in songs)


def test_the_order_of_the_table_does_not_matter_where_times_differ():
    rows = [(u, s, t) for t, (u, s) in enumerate([("a", "x"), ("b", "y"), ("a", "z"), ("b", "x"), ("a", "y")] * 5)]
    logs = [rr.data.EventLog(table(some), time="time", **NAMES) for some in (rows, rows[::-1], rows[7:] + rows[:7])]
    for user in ("a", "b"):
        assert {tuple(keys_of(log, log.latest(places_of(log, [user]), 4))[0]) for log in logs} == {
            tuple(past(rows, user)[-4:])
        }


TIME_TYPES = [pl.Date, pl.Datetime("ms"), pl.Datetime("us", "Europe/Berlin"), pl.Float64, pl.UInt8]


@pytest.mark.parametrize("dtype", TIME_TYPES)
def test_parts_make_the_same_log_again(dtype):
    times = pl.Series("time", [3, 1, 2, 2], dtype=pl.Int32).cast(dtype)
    rows = pl.DataFrame({"user": [1, 1, 2, 1], "song": list("xyzx")}).with_columns(times)
    log = rr.data.EventLog(rows, time="time", **NAMES)
    offsets, codes, when = log.codes()
    again = rr.data.EventLog.from_codes(
        queries=log.queries.keys, candidates=log.candidates.keys, offsets=offsets, codes=codes, times=when
    )
    assert again.table().equals(log.table())
    assert again.table().schema["time"] == times.dtype
    assert sorted(again.table().rows()) == sorted(rows.rows())


def test_parts_that_do_not_fit_are_refused():
    log = rr.data.EventLog(table([("a", "x", 1), ("a", "y", 2), ("a", "x", 3), ("b", "x", 0)]), time="time", **NAMES)
    offsets, codes, times = log.codes()
    good = {
        "queries": log.queries.keys,
        "candidates": log.candidates.keys,
        "offsets": offsets,
        "codes": codes,
        "times": times,
    }
    for bad in (
        {"offsets": offsets[:-1]},
        {"offsets": offsets + 1},
        {"offsets": offsets.flip(0)},
        {"offsets": offsets.int()},
        {"codes": codes + 5},
        {"codes": codes - 1},
        {"codes": codes[:-1]},
        {"codes": codes.float()},
        {"times": times.reverse()},
        {"times": times[:-1]},
        {"queries": pl.Series("user", ["a", "a"])},
    ):
        with pytest.raises(DataError):
            rr.data.EventLog.from_codes(**{**good, **bad})


def test_bad_events_are_refused():
    log = rr.data.EventLog(table([("a", "x", 1)]), time="time", **NAMES)
    zoned = pl.Series("time", [0]).cast(pl.Datetime("us", "UTC"))
    for bad in (
        pl.DataFrame({"user": ["a"], "song": ["x"]}),
        pl.DataFrame({"user": [1], "song": ["x"], "time": [1]}),
        pl.DataFrame({"user": ["a"], "song": [None], "time": [1]}, schema_overrides={"song": pl.String}),
        pl.DataFrame({"user": ["a"], "song": ["x"], "time": [float("nan")]}),
        pl.DataFrame({"user": ["a"], "song": ["x"], "time": [1.5]}),
        pl.DataFrame({"user": ["a"], "song": ["x"]}).with_columns(zoned),
    ):
        with pytest.raises(DataError):
            log.with_events(bad)
    assert len(log) == 1
    with pytest.raises(ConfigError, match="two columns"):
        rr.data.EventLog(table([]), query="user", candidate="user")
    timeless = rr.data.EventLog(table([("a", "x", 1)]), **NAMES)
    with pytest.raises(ConfigError, match="times"):
        timeless.latest(torch.tensor([0]))
    with pytest.raises(ConfigError, match="length"):
        log.latest(torch.tensor([0]), 0)
    with pytest.raises(DataError, match="times of type"):
        log.latest_before(torch.tensor([0]), zoned)


def test_without_times_rows_count_in_their_order():
    log = rr.data.EventLog(table([("a", "x", 3), ("b", "x", 2), ("a", "y", 1)]), **NAMES)
    log = log.with_events(table([("a", "x", 0)]))
    assert keys_of(log, log.events(places_of(log, ["a"]))) == [["x", "y", "x"]]


def test_an_older_log_stays_as_it_was():
    log = rr.data.EventLog(table([("a", "x", t) for t in range(20)]), time="time", **NAMES)
    before = log.table()
    one = log.with_events(table([("a", "y", 5)]))
    two = one.with_events(table([("new", "new", 1)] * 30))
    assert log.table().equals(before)
    assert (len(log), len(one), len(two)) == (20, 21, 51)
    assert len(log.queries) == 1
    assert len(two.queries) == 2


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"user": pl.String, "time": pl.Int64}, "time"),
        ({"user": pl.String, "timestamp": pl.Float64, "rating": pl.Int8}, "timestamp"),
        ({"user": pl.String, "when": pl.Datetime("us"), "time": pl.Int64}, "when"),
        ({"user": pl.String, "when": pl.Datetime("us"), "born": pl.Date}, None),
        ({"user": pl.String, "time": pl.Int64, "timestamp": pl.Int64}, None),
        ({"user": pl.String, "time": pl.String}, None),
        ({"time": pl.Int64, "song": pl.String}, None),
    ],
)
def test_the_time_column_is_guessed_only_where_there_is_no_doubt(schema, expected):
    assert time_column(pl.Schema(schema), ("user", "song") if "user" in schema else ("time", "song")) == expected


def test_many_queries_and_events_cost_what_is_asked():
    g = np.random.default_rng(0)
    rows = pl.DataFrame(
        {"user": g.integers(0, 300, 5000), "song": g.integers(0, 50, 5000), "time": g.integers(0, 900, 5000)}
    )
    log = rr.data.EventLog(rows, time="time", **NAMES)
    places = torch.from_numpy(log.queries.find(pl.Series(range(310))))
    lists = keys_of(log, log.latest(places, 7))
    ordered = rows.sort("time", maintain_order=True)
    for user in range(310):
        assert lists[user] == ordered.filter(user=user)["song"].tail(7).to_list()
