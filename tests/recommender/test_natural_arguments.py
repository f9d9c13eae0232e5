"""What a newcomer writes first: a key, a list of keys, a condition in SQL, a path with nothing there."""

import numpy as np
import polars as pl
import pytest
import torch
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import ConfigError, DataError, StorageError


@pytest.fixture(scope="module")
def recommender():
    rng = np.random.default_rng(0)
    plays = pl.DataFrame({"user": rng.integers(0, 20, 200), "song": [f"s{s}" for s in rng.integers(0, 30, 200)]})
    songs = pl.DataFrame({"song": [f"s{s}" for s in range(30)], "year": range(1990, 2020)})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    torch.manual_seed(0)
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)


def test_a_key_alone_is_a_query(recommender):
    wanted = recommender.recommend({"user": 7}, k=5)
    for key in (7, np.int64(7)):
        assert recommender.recommend(key, k=5).equals(wanted)
    for wrong in ("7", 7.0, None, [7]):
        with pytest.raises(DataError, match="user"):
            recommender.recommend(wrong)


@pytest.mark.parametrize("make", [list, tuple, np.array, pl.Series, lambda keys: pl.Series("other", keys)])
def test_keys_alone_are_queries(recommender, make):
    keys = [7, 3, 99, 7]
    wanted = recommender.recommend_many(pl.DataFrame({"user": keys}), k=4, where="year < 2005")
    found = recommender.recommend_many(make(keys), k=4, where=pl.col("year") < 2005)
    assert same_lists(found, wanted)
    assert recommender.recommend_many(make(keys)[:0]).equals(wanted.clear())


def test_keys_and_requests_that_do_not_fit_are_named_by_their_place(recommender):
    with pytest.raises(DataError, match=r"query 1: expected an integer key, got '3'"):
        recommender.recommend_many([7, "3"])
    with pytest.raises(DataError, match="request 1: .*Request.*got 3"):
        recommender.recommend_many([rr.recommender.Request({"user": 7}), 3])
    with pytest.raises(ConfigError, match="integer k"):
        recommender.recommend_many([7], k=0)


@pytest.mark.parametrize(
    "sql", ["year >= 2000", "year between 2000 and 2019", "not (year < 2000)", "song <> 's0' AND year > 1999"]
)
def test_conditions_may_be_written_in_sql(recommender, sql):
    wanted = recommender.recommend({"user": 7}, where=pl.col("year") >= 2000)
    assert len(wanted) == 10
    assert recommender.recommend({"user": 7}, where=sql).equals(wanted)
    requests = [rr.recommender.Request({"user": 7}, where=sql), rr.recommender.Request({"user": 3})]
    assert recommender.recommend_many(requests).filter(user=7)["song"].to_list() == wanted["song"].to_list()
    similar = [recommender.similar("s0", where=condition) for condition in (sql, pl.col("year") >= 2000)]
    assert similar[0].equals(similar[1])


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("year >=", ConfigError, "where: expected a condition in SQL"),
        ("yeer >= 2000", DataError, "yeer"),
        ("year", DataError, "true or false"),
        (True, ConfigError, "True"),
    ],
)
def test_what_is_no_condition_is_refused(recommender, sql, error, message):
    with pytest.raises(error, match=message):
        recommender.recommend(7, where=sql)


def test_a_path_without_a_bundle_says_so(tmp_path, recommender):
    (tmp_path / "letter").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    for name, got in (
        ("nowhere", "nothing there"),
        ("letter", "a file"),
        ("photos", r"a directory without manifest\.json"),
    ):
        with pytest.raises(StorageError, match=f"{name}: expected the directory of a bundle, got {got}"):
            rr.Recommender.load(tmp_path / name)
    recommender.save(tmp_path / "bundle")
    (tmp_path / "bundle" / "card.json").unlink()
    with pytest.raises(StorageError, match=r"card\.json"):
        rr.Recommender.load(tmp_path / "bundle")
