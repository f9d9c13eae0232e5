"""Conditions, allow-lists and deny-lists as rows of the catalogue."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankWarning
from retrank.recommender.request import Request
from retrank.recommender.rules import AllowLists, Conditions, rows_of_keys

songs = pl.DataFrame({"song": ["v", "w", "x", "y", "z"], "year": [1980, 1990, 2000, 2010, None]})


@pytest.fixture(scope="module")
def catalogue():
    return rr.FeatureSpace({"song": rr.features.Categorical()}).fit(songs).catalogue(songs, key="song")


def test_null_and_nan_are_unknown_and_unknown_is_not_true():
    years = Conditions(pl.DataFrame({"year": [1980.0, None, float("nan"), 2010.0]}))
    assert years.mask(pl.col("year") > 0).tolist() == [True, False, False, True]
    assert years.mask(~(pl.col("year") > 0)).tolist() == [False, False, False, False]
    assert years.mask(pl.col("year").is_null()).tolist() == [False, True, True, False]


def test_masks_are_kept_by_their_text_and_never_mistaken():
    table = Conditions(pl.DataFrame({"year": list(range(2000))}))
    first = table.mask(pl.col("year") < 7)
    assert table.mask(pl.col("year") < 7) is first
    odd = list(range(1, 2000, 2))  # long enough for a printed expression to be shortened
    assert table.mask(pl.col("year").is_in(odd)).sum() == 1000
    assert table.mask(pl.col("year").is_in([*odd[:-1], 0])).nonzero()[0].item() == 0
    for limit in (3, 5):  # functions cannot be told apart by what they print
        mask = table.mask(pl.col("year").map_elements(lambda year, at=limit: year < at, return_dtype=pl.Boolean))
        assert mask.sum() == limit


def test_only_so_many_masks_are_kept():
    table = Conditions(pl.DataFrame({"year": pl.arange(0, 2**20, eager=True)}))
    masks = [table.mask(pl.col("year") < limit) for limit in range(70)]
    assert 60 < len(table._masks) <= 64
    assert table.mask(pl.col("year") < 69) is masks[69]
    assert table.mask(pl.col("year") < 0) is not masks[0]


def test_threads_may_ask_at_once():
    table = Conditions(pl.DataFrame({"year": list(range(100))}))
    wrong = []

    def ask(first):
        limits = [limit % 60 for limit in range(first, first + 50)]
        wrong.extend(limit for limit in limits if int(table.mask(pl.col("year") < limit).sum()) != limit)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_keys_become_rows(catalogue):
    assert rows_of_keys(catalogue, ["z", "w", "z", "nobody"]).tolist() == [1, 4]
    assert rows_of_keys(catalogue, []).tolist() == []
    many = ["x", *(f"n{i}" for i in range(100))]  # looked up as a column
    assert rows_of_keys(catalogue, many).tolist() == [2]
    for keys in ([1], [True], [1.5], ["x", 1], [["x"]], [b"x"], list(range(50))):
        with pytest.raises(DataError):
            rows_of_keys(catalogue, keys)
        with pytest.raises(DataError):
            AllowLists(catalogue).mask(keys)


@pytest.mark.parametrize("form", [list, pl.Series, np.array])
def test_allowed_keys_become_masks(catalogue, form):
    lists = AllowLists(catalogue)
    for _ in range(2):
        assert Request({}, allow=form(["z", "w", "z"])).allow is not None
        assert lists.mask(Request({}, allow=form(["z", "w", "z"])).allow).nonzero()[:, 0].tolist() == [1, 4]
        with pytest.warns(RetrankWarning, match="allow: 2 of 2 keys"):
            assert not lists.mask(Request({}, allow=form(["a", "b"])).allow).any()


@pytest.mark.parametrize("form", [list, pl.Series, np.array])
def test_a_long_list_that_comes_again_is_known_and_another_is_not_taken_for_it(form):
    songs = pl.DataFrame({"song": range(5_000)})
    catalogue = rr.FeatureSpace({"song": rr.features.Categorical()}).fit(songs).catalogue(songs, key="song")
    lists, keys = AllowLists(catalogue), form(range(2_000)) if form is list else form(list(range(2_000)))
    first = lists.mask(Request({}, allow=keys).allow)
    assert first.sum() == 2_000
    assert lists.mask(Request({}, allow=keys).allow) is first
    for count in range(2_001, 2_008):  # more than are kept
        assert lists.mask(Request({}, allow=form(list(range(count)))).allow).sum() == count
    keys[0] = 4_999
    changed = lists.mask(Request({}, allow=keys).allow)
    assert changed[4_999]
    assert not changed[0]
    assert not first[4_999]
    for other in (form([float(key) for key in range(2_000)]), form([bool(key) for key in range(2_000)])):
        with pytest.raises(DataError):  # equal to Python, and of another type
            lists.mask(Request({}, allow=other).allow)


def test_threads_get_the_masks_of_their_own_lists():
    songs = pl.DataFrame({"song": range(5_000)})
    catalogue = rr.FeatureSpace({"song": rr.features.Categorical()}).fit(songs).catalogue(songs, key="song")
    lists, columns = AllowLists(catalogue), [pl.Series(range(1_000 + n)) for n in range(8)]

    def ask(number):
        return int(lists.mask(columns[number % 8]).sum()) == 1_000 + number % 8

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(800)))


@pytest.mark.parametrize(
    "where",
    [
        pl.col("yeer") > 3,
        pl.col("year"),
        (pl.col("year") > 3).any(),
        pl.col("year") > "a",
        pl.col("year", "song").is_null(),
    ],
)
def test_what_is_no_condition_is_refused(where):
    with pytest.raises(DataError, match="where"):
        Conditions(songs).mask(where)


def test_requests_are_checked_as_they_are_made():
    for rule in ("allow", "deny"):
        with pytest.raises(DataError, match=r"\['xy'\]"):
            Request({"user": "a"}, **{rule: "xy"})
    with pytest.raises(DataError, match="list of keys"):
        Request({"user": "a"}, deny=None)
    for k in (0, -1, 2.0, True, "3", None):
        with pytest.raises(ConfigError, match="integer k"):
            Request({"user": "a"}, k)
    with pytest.raises(DataError, match="user_id"):
        Request(42)
    with pytest.raises(ConfigError, match="exclude_seen"):
        Request({"user": "a"}, exclude_seen="no")
    with pytest.raises(ConfigError, match="expression"):
        Request({"user": "a"}, where=1990)
    with pytest.raises(ConfigError, match="where: expected a condition in SQL, got 'year >'"):
        Request({"user": "a"}, where="year >")
    assert Request({"user": "a"}, deny=pl.Series(["x"])).deny == ("x",)
