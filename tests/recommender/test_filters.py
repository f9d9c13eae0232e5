import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import DataError, RetrankWarning
from retrank.recommender.filters import allowed_rows

songs = pl.DataFrame({"song": ["v", "w", "x", "y", "z"], "year": [1980, 1990, 2000, 2010, None]})


@pytest.fixture(scope="module")
def catalogue():
    return rr.FeatureSpace({"song": rr.features.Categorical()}).fit(songs).catalogue(songs, key="song")


def test_nothing_said_allows_all(catalogue):
    assert allowed_rows(catalogue, songs) is None
    assert allowed_rows(catalogue, songs, where=pl.lit(True).repeat_by(5).explode(), deny=["nobody"]) is None


def test_rules_are_combined(catalogue):
    rows = allowed_rows(catalogue, songs, where=pl.col("year") >= 1985, allow=["x", "w", "z"], deny=["w", "nobody"])
    assert rows.tolist() == [2]


def test_null_is_not_true(catalogue):
    assert allowed_rows(catalogue, songs, where=pl.col("year") > 0).tolist() == [0, 1, 2, 3]


def test_an_allow_list_of_strangers_allows_nothing_and_says_so(catalogue):
    with pytest.warns(RetrankWarning, match="2 of 2 keys"):
        assert allowed_rows(catalogue, songs, allow=["a", "b"]).tolist() == []
    assert allowed_rows(catalogue, songs, allow=[]).tolist() == []


def test_a_single_key_is_not_a_list_of_characters(catalogue):
    for rule in ("allow", "deny"):
        with pytest.raises(DataError, match=r"\['xy'\]"):
            allowed_rows(catalogue, songs, **{rule: "xy"})
    with pytest.raises(DataError, match="list of keys"):
        allowed_rows(catalogue, songs, deny=None)


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
def test_what_is_no_condition_is_refused(catalogue, where):
    with pytest.raises(DataError, match="where"):
        allowed_rows(catalogue, songs, where=where)
