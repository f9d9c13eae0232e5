import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError

NAMES = {"query": "user", "candidate": "song"}
plays = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz")), max_size=30)


def table(rows):
    return pl.DataFrame(rows, schema={"user": pl.String, "song": pl.String}, orient="row")


@given(plays, st.integers(1, 6), st.integers(0, 3))
def test_lists_hold_other_candidates_of_the_query_each_once(rows, length, seed):
    lists = rr.data.with_seen_candidates(table(rows), length=length, seed=seed, **NAMES)["seen"].to_list()
    assert len(lists) == len(rows)
    for (user, own), seen in zip(rows, lists, strict=True):
        others = {song for u, song in rows if u == user} - {own}
        assert len(seen) == len(set(seen)) == min(length, len(others))
        assert set(seen) <= others


def test_over_many_seeds_every_other_candidate_is_drawn_alike():
    rows = table([("a", song) for song in "uvwxyz"])
    counts = dict.fromkeys("vwxyz", 0)
    for seed in range(400):
        for song in rr.data.with_seen_candidates(rows, length=2, seed=seed, **NAMES)["seen"][0]:
            counts[song] += 1
    assert all(abs(count - 160) < 50 for count in counts.values())  # five standard deviations of a binomial


def test_the_same_seed_draws_the_same_and_other_columns_stay():
    rows = table([(user, song) for user in "ab" for song in "uvwxyz"]).with_columns(stars=pl.lit(3))
    once, again = (rr.data.with_seen_candidates(rows, length=2, seed=1, name="beside", **NAMES) for _ in range(2))
    assert once.equals(again)
    assert once.drop("beside").equals(rows)
    assert not once.equals(rr.data.with_seen_candidates(rows, length=2, seed=2, name="beside", **NAMES))


def test_bad_input_is_refused():
    rows = table([("a", "x")])
    with pytest.raises(ConfigError, match="length"):
        rr.data.with_seen_candidates(rows, length=0, **NAMES)
    with pytest.raises(ConfigError, match="'song' exists"):
        rr.data.with_seen_candidates(rows, length=1, name="song", **NAMES)
    with pytest.raises(DataError, match="singer"):
        rr.data.with_seen_candidates(rows, query="user", candidate="singer", length=1)
    with pytest.raises(DataError, match=r"'song'.*row 1"):
        rr.data.with_seen_candidates(table([("a", "x"), ("a", None)]), length=1, **NAMES)
