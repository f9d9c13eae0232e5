"""Requests answered together get what each gets alone, and one that is refused spoils no other."""

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.recommender.song_world import KINDS, KNOWN, SONGS, requests, serve

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankError
from retrank.ops.dense import has_independent_rows
from retrank.recommender import RankedList, Request

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@pytest.fixture(scope="module", params=KINDS)
def recommender(request, with_and_without_kernels):
    return serve(request.param)


def alone(recommender, request):
    rules = {"exclude_seen": request.exclude_seen, "where": request.where, "allow": request.allow}
    try:
        return recommender.recommend(request.query, request.k, **rules, deny=request.deny)
    except RetrankError as error:
        return error


def as_list(recommender, table):
    keys = table["song"].to_list()
    rows = recommender.catalogue.rows(table["song"]).tolist()
    stage = table["stage"][0] if len(table) else None
    return keys, table["score"].to_list(), rows, stage


def assert_equal(recommender, found, expected):
    if isinstance(expected, RetrankError):
        assert type(found) is type(expected)
        assert str(found) == str(expected)
        return
    assert isinstance(found, RankedList)
    keys, scores, rows, stage = as_list(recommender, expected)
    assert stage is None or stage == found.stage
    if has_independent_rows() or recommender.baseline is not None:
        assert (found.keys, found.scores, found.rows) == (keys, scores, rows)
    else:  # of near ties, those that rounding parts may change places
        assert found.scores == pytest.approx(scores, rel=1e-4, abs=1e-5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_request_gets_what_it_gets_alone(recommender, data):
    brings_features = recommender.baseline is None
    size = data.draw(st.sampled_from([1, 2, 5, 9, 33]))
    asked = data.draw(st.lists(requests(brings_features=brings_features), min_size=size, max_size=size))
    found = recommender.answer(asked)
    assert len(found) == len(asked)
    expected = [alone(recommender, request) for request in asked]
    for one, other in zip(found, expected, strict=True):
        assert_equal(recommender, one, other)
    fine = [place for place, one in enumerate(expected) if not isinstance(one, RetrankError)]
    table = recommender.recommend_many([asked[place] for place in fine])
    lists = [found[place] for place in fine]
    assert table["song"].to_list() == [key for one in lists for key in one.keys]
    assert table["score"].to_list() == [score for one in lists for score in one.scores]
    assert table["user"].to_list() == [asked[place].query["user"] for place in fine for _ in found[place].keys]


def test_batches_of_every_size_are_right(recommender):
    plain = [Request({"user": [*KNOWN, "stranger"][n * 5 % 13]}, k=[3, 8, 60][n % 3]) for n in range(70)]
    expected = [alone(recommender, request) for request in plain]
    for size in range(1, 71) if has_independent_rows() else (1, 31, 33, 70):
        for one, other in zip(recommender.answer(plain[:size]), expected, strict=False):
            assert_equal(recommender, one, other)


def test_lists_hold_what_python_holds(recommender):
    found, empty = recommender.answer([Request({"user": "u1"}, k=4), Request({"user": "u1"}, where="year < 0")])
    assert len(found) == 4
    assert all(type(key) is str for key in found.keys)
    assert all(type(row) is int for row in found.rows)
    assert all(type(score) is float for score in found.scores)
    assert torch.tensor(found.scores).double().tolist() == found.scores
    assert (empty.keys, empty.scores, empty.rows) == ([], [], [])
    assert recommender.answer([]) == []
    assert set(recommender.answer([Request({"user": "stranger"}, k=1000)])[0].rows) == set(range(SONGS))


def test_what_is_no_request_is_refused_in_its_place(recommender):
    found = recommender.answer([Request({"user": "u1"}), {"user": "u1"}, "u1"])
    assert isinstance(found[0], RankedList)
    assert [type(one) for one in found[1:]] == [DataError, DataError]
    assert "Request" in str(found[1])


def test_integer_keys_are_pythons():
    history = pl.DataFrame({"user": [1, 1, 2], "song": [10, 20, 10]})
    baseline = rr.baselines.ItemKNN().fit(history, query="user", candidate="song")
    served = rr.Recommender(baseline, catalogue=history.select("song").unique(), history=history)
    found = served.answer([Request({"user": 2})])[0]
    assert found.keys == [20]
    assert type(found.keys[0]) is int


class Refuses(rr.core.Configurable, rr.Model):
    """Cannot score what is above 50."""

    features = ("age", rr.models.RETRIEVAL_SCORE)

    def forward(self, batch):
        return torch.where(batch["age"] > 50, torch.nan, batch["retrieval_score"])

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


def test_a_query_that_fails_late_fails_alone():
    """What is refused in the middle of a group, by a feature or a model, is refused with the message of one query."""
    plays = pl.DataFrame({"user": [f"u{n % 5}" for n in range(40)], "song": [f"s{n * 7 % 11}" for n in range(40)]})
    plays = plays.with_columns(age=20, visits=3)
    kinds = {name: rr.features.Categorical() for name in ("user", "song")}
    space = rr.FeatureSpace({**kinds, "age": rr.features.Passthrough(), "visits": rr.features.Log()}).fit(plays)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "visits"]), rr.models.Tower(space, ["song"]), rr.tasks.Retrieval()
    )
    served = rr.Recommender(
        model, ranking=Refuses(), space=space, catalogue=plays.select("song").unique(maintain_order=True),
        history=plays, progress=False,
    )  # fmt: skip
    brought = [{}, {"visits": -1}, {"age": 60}, {"age": 30, "visits": 2}, {}, {"age": 70}]
    asked = [Request({"user": f"u{n % 5}", **one}) for n, one in enumerate(brought)]
    found = served.answer(asked)
    assert [isinstance(one, RetrankError) for one in found] == [False, True, True, False, False, True]
    for one, request in zip(found, asked, strict=True):
        assert_equal(served, one, alone(served, request))
    assert "row" not in str(found[1])


def test_requests_say_where_they_are_wrong_in_bulk(recommender):
    with pytest.raises(DataError, match=r"request 1: .*yeer"):
        recommender.recommend_many([Request({"user": "u1"}), Request({"user": "u1"}, where="yeer > 3")])
    with pytest.raises(ConfigError):
        Request({"user": "u1"}, where="yeer >")
