"""An explanation is of the list that the request gets, and every number in it can be computed in another way."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recommender.song_world import KEYS, KNOWN, SONGS, requests, serve, tables

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankError

Request = rr.recommender.Request
PLAYS, TABLE = tables()
UNAVAILABLE = ["s3", "s9", "s40"]
MADE = {}


def made(kind):
    if kind not in MADE:
        MADE[kind] = serve(kind).with_unavailable(UNAVAILABLE)
    return MADE[kind]


def past_of(user):
    return PLAYS.filter(user=user)["song"].to_list()


@pytest.mark.parametrize("kind", ["two towers", "reranker", "another ranking model", "baseline"])
@pytest.mark.filterwarnings("ignore:allow.*are no candidates")
@settings(max_examples=30)
@given(data=st.data())
def test_it_is_of_the_list_that_the_request_gets(kind, data):
    recommender = made(kind)
    request = data.draw(requests(brings_features=kind != "baseline"))
    (found,) = recommender.answer([request])
    if isinstance(found, RetrankError):
        with pytest.raises(type(found)) as refused:
            recommender.explain(request)
        assert str(refused.value) == str(found)
        return
    why = recommender.explain(request)
    assert [one.key for one in why.candidates] == found.keys
    assert [one.score for one in why.candidates] == found.scores
    assert why.stage == found.stage
    assert json.loads(json.dumps(why.to_dict()))["says"] == why.says
    retrieval = recommender.without_ranking()
    query, everything = request.query, {"k": SONGS, "exclude_seen": False}
    scores = dict(retrieval.recommend(query, **everything).select("song", "score").iter_rows())
    for one in why.candidates:
        if found.stage == "popularity":
            assert (one.retrieval_score, one.ranking_score, one.reasons) == (None, None, ())
            continue
        assert one.retrieval_score == pytest.approx(scores[one.key], rel=1e-6)
        if found.stage == "ranking":
            assert one.ranking_score == pytest.approx(one.score, rel=1e-5)  # to the bit with the kernels
        else:
            assert one.ranking_score is None
            assert one.retrieval_score == one.score
    order = recommender.with_available(UNAVAILABLE).recommend("nobody", **everything)["song"].to_list()
    assert [one.popularity_rank for one in why.candidates] == [order.index(one.key) + 1 for one in why.candidates]


@pytest.mark.parametrize("kind", ["two towers", "reranker", "baseline"])
@settings(max_examples=20)
@given(
    user=st.sampled_from([*KNOWN, "nobody"]),
    exclude_seen=st.booleans(),
    deny=st.lists(st.sampled_from(KEYS), max_size=4),
    allow=st.none() | st.lists(st.sampled_from(KEYS), min_size=1, max_size=40, unique=True),
    where=st.sampled_from([None, "year < 1990"]),
)
def test_every_rule_is_counted_and_named(kind, user, exclude_seen, deny, allow, where):
    recommender = made(kind)
    request = Request({"user": user}, k=5, exclude_seen=exclude_seen, deny=deny, allow=allow, where=where)
    why = recommender.explain(request)
    rules = {"unavailable": set(UNAVAILABLE)}
    if exclude_seen:
        rules["seen"] = set(past_of(user))
    if deny:
        rules["deny"] = set(deny)
    if allow is not None:
        rules["allow"] = set(KEYS) - set(allow)
    if where is not None:
        rules["where"] = set(TABLE.filter(pl.col("year") >= 1990)["song"])
    assert why.left_out == {rule: len(keys) for rule, keys in rules.items()}
    plain = recommender.with_available(UNAVAILABLE).without_ranking()
    depth = 100 if kind == "baseline" else recommender.num_retrieved
    best = plain.recommend(user, k=depth, exclude_seen=False)["song"].to_list()
    assert list(why.removed) == [key for key in best if any(key in keys for keys in rules.values())]
    for key, named in why.removed.items():
        assert set(named) == {rule for rule, keys in rules.items() if key in keys}
    kept = [key for key in best if key not in why.removed]
    if kind != "reranker":
        assert [one.key for one in why.candidates][: len(kept)] == kept[:5]


def cosines(recommender, past, key):
    with torch.inference_mode():
        vectors = recommender.retrieval.embed_candidates(recommender.catalogue.batch).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    found = {other: float(vectors[KEYS.index(other)] @ vectors[KEYS.index(key)]) for other in past}
    return {other: value for other, value in found.items() if value > 0 and other != key}


@pytest.mark.parametrize("kind", ["two towers", "reranker"])
@pytest.mark.parametrize("history", [None, ["s3", "s7", "s7", "nothing", "s20"], ["s3"]])
@pytest.mark.parametrize("user", ["u1", "u5", None])
def test_the_nearest_of_what_the_query_has_done_speaks_for_a_candidate(kind, history, user):
    recommender = made(kind)
    if user is None and history is None:
        return
    request = Request({} if user is None else {"user": user}, k=SONGS, exclude_seen=False, history=history)
    past = past_of(user) if history is None else [key for key in history if key in KEYS]
    for one in recommender.explain(request).candidates:
        expected = sorted(cosines(recommender, set(past), one.key).items(), key=lambda reason: -reason[1])[:3]
        assert [key for key, _ in one.reasons] == [key for key, _ in expected]
        assert [value for _, value in one.reasons] == pytest.approx([value for _, value in expected], abs=1e-5)


def test_a_list_that_a_query_brings_is_what_speaks():
    why = made("two towers").explain(Request({"user": "u1", "recent": ["s7", "s20"]}, k=20))
    assert {key for one in why.candidates for key, _ in one.reasons} == {"s7", "s20"}


@pytest.mark.parametrize("maker", [rr.baselines.ItemKNN, lambda: rr.baselines.EASE(l2=3.0, decay=0.3)])
@pytest.mark.parametrize("history", [None, ["s3", "s7", "nothing"]])
def test_what_speaks_for_a_candidate_of_a_baseline_adds_up_to_its_score(maker, history):
    baseline = maker().fit(PLAYS, query="user", candidate="song", time="time")
    recommender = rr.Recommender(baseline, catalogue=TABLE, history=PLAYS, time="time")
    latest = past_of("u2")[-3:] if history is None else [key for key in history if key in PLAYS["song"]]
    few = PLAYS.filter((pl.col("user") != "u2") | pl.col("song").is_in(latest))
    served = rr.Recommender(recommender.baseline, catalogue=TABLE, history=few, time="time")
    why = served.explain(Request({"user": "u2"}, k=SONGS, exclude_seen=False, history=history))
    assert why.stage == "retrieval"
    for one in why.candidates:
        assert {key for key, _ in one.reasons} <= set(latest)
        if len(one.reasons) == len(latest):
            assert sum(value for _, value in one.reasons) == pytest.approx(one.score, rel=1e-4)
        for key, value in one.reasons:
            assert value > 0
            if not getattr(baseline, "decay", 0):
                alone = served.recommend({}, k=SONGS, exclude_seen=False, history=[key])
                assert value == pytest.approx(dict(alone.select("song", "score").iter_rows())[one.key], rel=1e-4)


@pytest.mark.parametrize("kind", ["two towers", "reranker", "baseline"])
@settings(max_examples=15)
@given(data=st.data())
def test_business_rules_are_named_and_what_they_leave_out_is_counted(kind, data):
    recommender, Rerank = made(kind), rr.recommender.Rerank
    caps = data.draw(st.sampled_from([{}, {"artist": 1}, {"genres": 2, "artist": 3}]))
    diversity = 0.0 if kind == "baseline" else data.draw(st.sampled_from([0.0, 0.6]))
    boosts = data.draw(st.sampled_from([(), (rr.recommender.Boost("year < 1980", by=2.0),)]))
    exploration = data.draw(st.sampled_from([None, rr.recommender.Exploration(2, 0.7, seed=5)]))
    user, k = data.draw(st.sampled_from(["u1", "u2", "nobody"])), data.draw(st.sampled_from([3, 8]))

    def request(**rules):
        return Request({"user": user}, k, rerank=Rerank(**rules))

    rules = {"caps": caps, "diversity": diversity, "boosts": boosts}
    asked = request(**rules, exploration=exploration)
    (found,) = recommender.answer([asked])
    why = recommender.explain(asked)
    assert [(one.key, one.score) for one in why.candidates] == list(zip(found.keys, found.scores, strict=True))
    named = [*([f"caps on {', '.join(caps)}"] if caps else []), *(["diversity"] if diversity else [])]
    named += [*(["boosts"] if boosts else []), *(["exploration"] if exploration else [])]
    assert why.says.endswith(f"reranked by {', '.join(named)}")
    (certain,) = recommender.answer([request(**rules)])
    for rule, value in rules.items():
        if not value:
            assert rule not in why.left_out
            continue
        (others,) = recommender.answer([request(**{name: other for name, other in rules.items() if name != rule})])
        missing = {*others.keys} - {*certain.keys}
        assert why.left_out[rule] == len(missing)
        assert {key for key, left_out in why.removed.items() if rule in left_out} <= missing
    if boosts and found.stage == "ranking":
        usual = recommender.explain(Request({"user": user}, SONGS))
        scores = {one.key: one.ranking_score for one in usual.candidates}
        assert [one.ranking_score for one in why.candidates] == [scores[one.key] for one in why.candidates]


def test_a_list_that_chance_has_made_is_explained_as_it_is():
    recommender = made("two towers")
    exploration = rr.recommender.Exploration(1, 0.99)
    request = Request({"user": "u1"}, 3, rerank=rr.recommender.Rerank(exploration=exploration))
    for found in recommender.answer([request] * 5):
        assert [one.key for one in recommender.explain(request, found).candidates] == found.keys


def test_who_says_so():
    said = {kind: made(kind).explain(Request({"user": "u1"})).says for kind in ("two towers", "reranker", "baseline")}
    assert said == {
        "two towers": "retrieval by TwoTower",
        "reranker": "retrieval by TwoTower, ranking by Reranker",
        "baseline": "ItemKNN, from what the query has done",
    }
    assert made("reranker").explain(Request({"user": "nobody"})).says.startswith("the popular candidates")
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(PLAYS)
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
    plain = rr.Recommender(retrieval=model, space=space, catalogue=TABLE, history=PLAYS, time="time")
    why = plain.explain(Request({}, history=["s1", "s2"]))
    assert why.stage == "similar"
    assert why.says == "similar, to MatrixFactorization, to what the query says that it has done"
    for one in why.candidates:
        assert one.retrieval_score == one.score
        assert sum(cosines(plain, ["s1", "s2"], one.key).values()) >= one.score - 1e-5


def test_popularity_itself_gives_no_reasons():
    popular = rr.baselines.Popularity().fit(PLAYS, query="user", candidate="song", time="time")
    why = rr.Recommender(popular, catalogue=TABLE, history=PLAYS, time="time").explain(Request({"user": "u1"}))
    assert why.stage == "popularity"
    assert all(one.reasons == () and one.retrieval_score is None for one in why.candidates)
    assert [one.popularity_rank for one in why.candidates] == sorted(one.popularity_rank for one in why.candidates)


def test_an_empty_list_is_explained_too():
    why = made("reranker").explain(Request({"user": "u1"}, allow=["s3"]))
    assert why.candidates == ()
    assert why.left_out == {"seen": 8, "allow": SONGS - 1, "unavailable": 3}


def test_what_is_no_request_is_refused():
    with pytest.raises(ConfigError, match="explain: expected a rr.recommender.Request"):
        made("two towers").explain({"user": "u1"})
    with pytest.raises(DataError, match="the key"):
        made("two towers").explain(Request({}))
