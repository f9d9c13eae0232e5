import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.errors import ConfigError, DataError
from retrank.data.recent import latest_candidates, with_recent_candidates

NAMES = {"query": "user", "candidate": "song", "time": "time"}
plays = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(0, 3)), max_size=25)


def table(rows):
    schema = {"user": pl.String, "song": pl.String, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@given(plays, st.integers(1, 4))
def test_lists_hold_the_past_and_nothing_else(rows, length):
    lists = with_recent_candidates(table(rows), length=length, **NAMES)["recent"].to_list()
    for i, (user, _, time) in enumerate(rows):
        before = sorted((t, j, song) for j, (u, song, t) in enumerate(rows) if u == user and (t, j) < (time, i))
        assert lists[i] == [song for _, _, song in before][-length:]


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
