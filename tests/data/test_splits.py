from collections import defaultdict
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr

LOG = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=1, max_size=30)


def log(rows):
    return pl.DataFrame(
        {"q": [q for q, _ in rows], "t": [t for _, t in rows], "row": range(len(rows))},
        schema={"q": pl.String, "t": pl.Int64, "row": pl.Int64},
    )


def test_random_split_is_the_declared_permutation():
    table = pl.DataFrame({"x": range(1000)})
    order = np.random.default_rng(42).permutation(1000).tolist()
    for test_size in (200, 0.2):
        train, test = rr.data.random_split(table, test_size=test_size, seed=42)
        assert train["x"].to_list() == order[:800]
        assert test["x"].to_list() == order[800:]


@given(num_rows=st.integers(2, 200), fraction=st.floats(0.01, 0.99))
def test_random_split_of_a_fraction_rounds(num_rows, fraction):
    wanted = round(fraction * num_rows)
    table = pl.DataFrame({"x": range(num_rows)})
    if not 1 <= wanted < num_rows:
        with pytest.raises(rr.errors.ConfigError, match="test_size"):
            rr.data.random_split(table, test_size=fraction, seed=0)
        return
    train, test = rr.data.random_split(table, test_size=fraction, seed=0)
    assert len(test) == wanted
    assert sorted(train["x"].to_list() + test["x"].to_list()) == list(range(num_rows))


@pytest.mark.parametrize("test_size", [0, 10, 11, -1, 0.0, 1.0, 1.5, float("nan"), float("inf"), 5.0])
def test_sizes_that_leave_a_side_empty(test_size):
    table = pl.DataFrame({"x": range(10), "t": range(10)})
    with pytest.raises(rr.errors.ConfigError, match="test_size"):
        rr.data.random_split(table, test_size=test_size, seed=0)
    with pytest.raises(rr.errors.ConfigError, match="test_size"):
        rr.data.time_split(table, time="t", test_size=test_size)


def test_empty_tables():
    empty = pl.DataFrame(schema={"q": pl.String, "t": pl.Int64})
    for split in (
        lambda: rr.data.random_split(empty, test_size=0.5, seed=0),
        lambda: rr.data.time_split(empty, time="t", test_size=0.5),
        lambda: rr.data.leave_last_split(empty, query="q", time="t"),
        lambda: rr.data.leave_random_split(empty, query="q", test_size=0.5, seed=0),
    ):
        with pytest.raises(rr.errors.DataError, match="at least one row"):
            split()


@given(LOG, st.integers(1, 10))
def test_time_split_never_trains_on_the_future(rows, size):
    table = log(rows)
    times = sorted(t for _, t in rows)
    if size >= len(rows):
        return
    cutoff = times[len(rows) - size]
    if cutoff == times[0]:
        with pytest.raises(rr.errors.DataError, match="column 't'"):
            rr.data.time_split(table, time="t", test_size=size)
        return
    train, test = rr.data.time_split(table, time="t", test_size=size)
    assert train["row"].to_list() == [n for n, (_, t) in enumerate(rows) if t < cutoff]
    assert test["row"].to_list() == [n for n, (_, t) in enumerate(rows) if t >= cutoff]
    assert len(test) >= size
    again = rr.data.time_split(table, time="t", cutoff=cutoff)
    assert train.equals(again[0])
    assert test.equals(again[1])


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_time_split_of_datetimes(unit):
    start = datetime(2024, 1, 1)
    table = pl.DataFrame({"t": [start + timedelta(days=d) for d in (3, 0, 2, 1)]}).cast(pl.Datetime(unit))
    _, test = rr.data.time_split(table, time="t", cutoff=start + timedelta(days=2))
    assert test["t"].dt.day().to_list() == [4, 3]
    assert rr.data.time_split(table, time="t", test_size=0.5)[1].equals(test)
    with pytest.raises(rr.errors.DataError, match="column 't'"):
        rr.data.time_split(table, time="t", cutoff="tomorrow")


def test_time_split_keeps_nanoseconds_apart():
    table = pl.DataFrame({"t": [1_001, 1_002, 1_003]}).select(pl.col("t").cast(pl.Datetime("ns")))
    assert [len(side) for side in rr.data.time_split(table, time="t", test_size=1)] == [2, 1]


def test_time_split_wants_one_rule():
    table = pl.DataFrame({"t": [1, 2]})
    for rule in ({}, {"test_size": 0.5, "cutoff": 2}):
        with pytest.raises(rr.errors.ConfigError, match="time_split"):
            rr.data.time_split(table, time="t", **rule)
    for cutoff in (0, 3):
        with pytest.raises(rr.errors.DataError, match="column 't'"):
            rr.data.time_split(table, time="t", cutoff=cutoff)


def last_rows(rows, how_many):
    """The slow rule: sort each query's rows by (time, row), take the last."""
    of_query = defaultdict(list)
    for row, (query, time) in enumerate(rows):
        of_query[query].append((time, row))
    test = set()
    for history in of_query.values():
        take = min(how_many(len(history)), len(history) - 1)
        test |= {row for _, row in sorted(history)[len(history) - take :]}
    return test


@settings(max_examples=200)
@given(LOG, st.integers(1, 4) | st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_leave_last_split_against_the_slow_rule(rows, size):
    table = log(rows)
    how_many = (lambda m: size) if isinstance(size, int) else (lambda m: max(1, int(size * m + 1e-9)))
    wanted = last_rows(rows, how_many)
    if not wanted:
        with pytest.raises(rr.errors.DataError, match="column 'q'"):
            rr.data.leave_last_split(table, query="q", time="t", test_size=size)
        return
    train, test = rr.data.leave_last_split(table, query="q", time="t", test_size=size)
    assert test["row"].to_list() == sorted(wanted)
    assert train["row"].to_list() == sorted(set(range(len(rows))) - wanted)
    assert train.columns == test.columns == table.columns


@given(LOG, st.integers(1, 4) | st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(0, 2**32))
def test_leave_random_split_against_the_slow_rule(rows, size, seed):
    table = log(rows)
    how_many = (lambda m: size) if isinstance(size, int) else (lambda m: max(1, int(size * m + 1e-9)))
    numbers = np.random.default_rng(seed).permutation(len(rows))
    wanted = last_rows([(query, number) for (query, _), number in zip(rows, numbers, strict=True)], how_many)
    if not wanted:
        with pytest.raises(rr.errors.DataError, match="column 'q'"):
            rr.data.leave_random_split(table, query="q", test_size=size, seed=seed)
        return
    train, test = rr.data.leave_random_split(table, query="q", test_size=size, seed=seed)
    assert test["row"].to_list() == sorted(wanted)
    assert train["row"].to_list() == sorted(set(range(len(rows))) - wanted)


def test_leave_random_split_takes_any_rows_of_a_query():
    chosen = [rr.data.leave_random_split(log([("a", 1)] * 10), query="q", test_size=1, seed=s)[1] for s in range(100)]
    assert {table["row"][0] for table in chosen} == set(range(10))


def test_equal_times_keep_the_order_of_the_table():
    _, test = rr.data.leave_last_split(log([("a", 1)] * 100), query="q", time="t")
    assert test["row"].to_list() == [99]


def test_leave_last_split_refuses_bad_rules_and_rows():
    table = log([("a", 1), ("a", 2)])
    for size in (0, -1, 0.0, 1.0, 1.5, float("nan"), True):
        with pytest.raises(rr.errors.ConfigError, match="test_size"):
            rr.data.leave_last_split(table, query="q", time="t", test_size=size)
        with pytest.raises(rr.errors.ConfigError, match="test_size"):
            rr.data.leave_random_split(table, query="q", test_size=size, seed=0)
    with pytest.raises(rr.errors.DataError, match="column 'q', row 1"):
        rr.data.leave_last_split(table.with_columns(q=pl.Series(["a", None])), query="q", time="t")
    with pytest.raises(rr.errors.DataError, match="column 't', row 0"):
        rr.data.leave_last_split(table.with_columns(t=pl.Series([float("nan"), 1.0])), query="q", time="t")
    with pytest.raises(rr.errors.DataError, match="'user'"):
        rr.data.leave_last_split(table, query="user", time="t")


def test_splits_read_files(tmp_path):
    pl.DataFrame({"x": range(10)}).write_parquet(tmp_path / "a.parquet")
    train, test = rr.data.random_split(tmp_path / "a.parquet", test_size=3, seed=1)
    assert (len(train), len(test)) == (7, 3)
