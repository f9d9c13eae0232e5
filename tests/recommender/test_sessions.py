"""What a query says that it has done stands in for what the log says, in every kind of recommender."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recommender.comparison import same_lists
from tests.recommender.song_world import KEYS, KNOWN, RETRIEVED, tables
from tests.recommender.song_world import serve as serve_one

import retrank as rr
from retrank.core.errors import DataError

F, Request = rr.features, rr.recommender.Request
LISTED = ["song", "rank", "score", "stage"]
HISTORY, SONGS = tables()
histories = st.lists(st.sampled_from([*KEYS, "nothing", "unheard"]), max_size=12)


def serve(kind):
    pairs = {"query": "user", "candidate": "song"}
    if kind == "factors":  # nothing is read of a query but its key and its age
        space = rr.FeatureSpace(
            {"user": F.Categorical(), "song": F.Categorical(), "year": F.Normalized(), "age": F.Normalized(fill=30.0)}
        ).fit(HISTORY.join(SONGS, on="song"))
        torch.manual_seed(0)
        model = rr.models.TwoTower(
            rr.models.Tower(space, ["user", "age"], layers=[8]), rr.models.Tower(space, ["song", "year"], layers=[8]),
            rr.tasks.Retrieval(),
        )  # fmt: skip
        return rr.Recommender(retrieval=model, space=space, catalogue=SONGS, history=HISTORY, time="time")
    if kind == "seen":
        rows = rr.data.with_seen_candidates(HISTORY, **pairs, length=4)
        space = rr.FeatureSpace({"user": F.Categorical(), "song": F.Categorical(), "seen": F.Seen("song")}).fit(rows)
        torch.manual_seed(0)
        model = rr.models.TwoTower(
            rr.models.Tower(space, ["user"], residual="seen"), rr.models.Tower(space, ["song"], residual="song"),
            rr.tasks.Retrieval(), tie_residuals=True,
        )  # fmt: skip
        return rr.Recommender(retrieval=model, space=space, catalogue=SONGS, history=HISTORY, time="time")
    if kind in BASELINES:
        return rr.Recommender(
            BASELINES[kind]().fit(HISTORY, **pairs, time="time"), catalogue=SONGS, history=HISTORY, time="time"
        )
    return serve_one(kind)


BASELINES = {
    "item-kNN": rr.baselines.ItemKNN,
    "EASE, recent first": lambda: rr.baselines.EASE(l2=3.0, decay=0.4),
    "popularity": rr.baselines.Popularity,
}
READING = ["two towers", "reranker", "seen", "item-kNN", "EASE, recent first"]
MADE = {}
PLAYED = HISTORY["song"].unique().sort().to_list()


def made(kind):
    if kind not in MADE:
        MADE[kind] = serve(kind)
    return MADE[kind]


def past_of(user):
    return HISTORY.filter(user=user).sort("time")["song"].to_list()


@pytest.mark.parametrize("kind", READING)
@settings(max_examples=30)
@given(user=st.sampled_from(KNOWN), k=st.sampled_from([1, RETRIEVED, 60]), exclude_seen=st.booleans())
def test_a_known_query_that_brings_its_own_past_gets_its_own_list(kind, user, k, exclude_seen):
    recommender, rules = made(kind), {"k": k, "exclude_seen": exclude_seen}
    usual = recommender.recommend(user, **rules)
    assert same_lists(recommender.recommend(user, **rules, history=past_of(user)), usual)


@pytest.mark.parametrize("kind", READING)
def test_after_events_too(kind):
    later = pl.DataFrame({"user": ["u1", "u1", "stranger"], "song": ["s7", "s8", "s7"], "time": [50, 51, 52]})
    live = made(kind).with_events(later)
    for user, past in (("u1", [*past_of("u1"), "s7", "s8"]), ("stranger", ["s7"])):
        assert same_lists(live.recommend(user, history=past), live.recommend(user))
    assert not live.recommend("u1", history=past_of("u1")).equals(live.recommend("u1"))


@pytest.mark.parametrize("kind", ["two towers", "reranker", "seen"])
@settings(max_examples=30)
@given(history=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True), known=st.booleans())
def test_it_is_as_if_the_query_had_brought_the_list(kind, history, known):
    recommender, column = made(kind), "seen" if kind == "seen" else "recent"
    if kind == "seen":  # what has no order is read in the order of the log
        order = [*recommender.history.events.candidates.keys, *KEYS]
        history = sorted(history, key=order.index)
    query = {"user": "u3" if known else "somebody"}
    brought = recommender.recommend({**query, column: history}, k=60)
    assert recommender.recommend(query, k=60, history=history).equals(brought)
    if not known:  # without a key, as with one that nobody knows
        assert recommender.recommend({}, k=60, history=history).equals(brought)


@settings(max_examples=40)
@given(history=histories, user=st.sampled_from(["u3", "somebody", None]), k=st.sampled_from([3, 60]))
def test_a_model_that_reads_no_list_sums_what_is_similar(history, user, k):
    recommender = made("factors")
    query = {} if user is None else {"user": user}
    found = recommender.recommend(query, k=k, history=history)
    known = sorted({key for key in history if key in KEYS})
    if not known:
        popular = recommender.recommend("somebody", k=60)
        gone = past_of(user) if user == "u3" else []
        assert found.drop("rank").equals(popular.filter(~pl.col("song").is_in(gone)).head(k).drop("rank"))
        return
    with torch.inference_mode():
        vectors = recommender.retrieval.embed_candidates(recommender.catalogue.batch).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = dict(zip(KEYS, vectors @ vectors[[KEYS.index(key) for key in known]].sum(axis=0), strict=True))
    gone = {*known, *(past_of(user) if user == "u3" else [])}
    best = sorted((score for key, score in scores.items() if key not in gone), reverse=True)[:k]
    assert set(found["stage"]) == {"similar"}
    assert not gone & set(found["song"])
    np.testing.assert_allclose(found["score"], best, atol=1e-5)
    np.testing.assert_allclose(found["score"], [scores[key] for key in found["song"]], atol=1e-5)
    assert recommender.recommend(query, k=k, history=[*reversed(history), *history]).equals(found)


def test_one_candidate_is_what_is_similar_to_it():
    recommender = made("factors")
    alike = recommender.similar("s9", k=10)
    assert recommender.recommend({}, history=["s9"]).drop("stage").equals(alike)


@pytest.mark.parametrize("kind", [*READING, "factors", "popularity", "another ranking model"])
@settings(max_examples=25)
@given(data=st.data())
def test_alone_and_among_others_the_bits_are_the_same(kind, data):
    recommender = made(kind)
    asked = data.draw(
        st.lists(
            st.builds(
                Request,
                st.sampled_from([{}, {"user": "u1"}, {"user": "u2"}, {"user": "somebody"}]),
                k=st.sampled_from([1, 5, 25]),
                exclude_seen=st.booleans(),
                where=st.sampled_from([None, "year < 1990"]),
                deny=st.lists(st.sampled_from(KEYS), max_size=2),
                history=histories,
            )
            | st.builds(Request, st.sampled_from([{"user": "u1"}, {"user": "somebody"}]), k=st.sampled_from([1, 5])),
            min_size=1,
            max_size=7,
        )
    )
    alone = [
        recommender.recommend(
            one.query, one.k, exclude_seen=one.exclude_seen, where=one.where, deny=one.deny, history=one.history
        ).select(LISTED)
        for one in asked
    ]
    together = recommender.recommend_many(asked)
    assert same_lists(together.select(LISTED), pl.concat(alone))
    keys = [one.query.get("user") for one, found in zip(asked, alone, strict=True) for _ in range(len(found))]
    assert together["user"].to_list() == keys
    for found, expected in zip(recommender.answer(asked), alone, strict=True):
        assert found.keys == expected["song"].to_list()
        assert not found.keys or found.stage == expected["stage"][0]


@pytest.mark.parametrize("kind", [*READING, "factors"])
def test_what_is_in_the_history_is_left_out_beside_what_the_log_says(kind):
    recommender = made(kind)
    left = recommender.recommend("u4", k=60, history=["s1", "s2", "nothing"])["song"].to_list()
    assert sorted([*left, *{*past_of("u4"), "s1", "s2"}]) == sorted(KEYS)
    kept = recommender.recommend("u4", k=60, history=["s1", "s2"], exclude_seen=False)["song"]
    assert sorted(kept) == sorted(KEYS)


@pytest.mark.parametrize("kind", [*READING, "factors", "popularity"])
@pytest.mark.parametrize("history", [[], ["nothing"], ["nothing", "unheard"] * 250])
def test_nothing_known_is_popular(kind, history):
    recommender = made(kind)
    popular = recommender.recommend("somebody", k=5)
    assert set(popular["stage"]) == {"popularity"}
    assert recommender.recommend({}, k=5, history=history).equals(popular)


@pytest.mark.parametrize("kind", [*READING, "factors"])
def test_long_histories_repeats_and_strangers_among_them(kind):
    recommender, rng = made(kind), np.random.default_rng(5)
    long = [KEYS[place] for place in rng.integers(0, 20, 500)]
    found = recommender.recommend({}, k=60, history=long)
    assert sorted([*found["song"], *set(long)]) == sorted(KEYS)
    with_others = [key for known in long for key in (known, "nothing")]
    assert recommender.recommend({}, k=60, history=with_others).equals(found)
    for form in (tuple, pl.Series, np.array):
        assert recommender.recommend({}, k=60, history=form(long)).equals(found)
    many = recommender.recommend_many([Request({}, k=60, history=long), Request({}, k=60, history=["s1"])])
    alone = pl.concat([found.select(LISTED), recommender.recommend({}, k=60, history=["s1"]).select(LISTED)])
    assert same_lists(many.select(LISTED), alone)


def test_a_new_candidate_counts_as_it_would_from_the_log():
    new = SONGS.head(1).with_columns(song=pl.lit("new"))
    for kind in READING:
        larger = made(kind).with_candidates(new)
        event = pl.DataFrame({"user": ["guest"], "song": ["new"], "time": [99]})
        logged = larger.with_events(event)
        assert same_lists(logged.recommend("guest", history=["new"]), logged.recommend("guest"))
        assert "new" not in larger.recommend({}, k=60, history=["new"])["song"]


@pytest.mark.parametrize("kind", ["two towers", "item-kNN", "factors"])
@pytest.mark.parametrize("wrong", [7, None, 1.5, True, ["s1"], b"s1"])
def test_wrong_keys_are_refused_with_their_place(kind, wrong):
    recommender = made(kind)
    with pytest.raises(DataError, match=r"history, position 2: expected a string key"):
        recommender.recommend({}, history=["s1", "nothing", wrong, "s2"])
    with pytest.raises(DataError, match=r"request 1: history, position 0"):
        recommender.recommend_many([Request({"user": "u1"}), Request({"user": "u1"}, history=[wrong])])
    (fine, refused) = recommender.answer([Request({"user": "u1"}), Request({}, history=[wrong])])
    assert len(fine) == 10
    assert "position 0" in str(refused)


def test_integers_of_any_width_are_keys_and_none_beyond_64_bits():
    plays = HISTORY.with_columns(song=pl.col("song").str.slice(1).cast(pl.Int32))
    knn = rr.baselines.ItemKNN().fit(plays, query="user", candidate="song", time="time")
    recommender = rr.Recommender(knn, catalogue=plays.select("song").unique(), history=plays, time="time")
    found = recommender.recommend({}, history=[3, 4])
    assert recommender.recommend({}, history=np.array([3, 4], dtype=np.uint8)).equals(found)
    with pytest.raises(DataError, match=r"position 1: expected an integer key of 64 bits"):
        recommender.recommend({}, history=[3, 2**64])
    with pytest.raises(DataError, match="position 0"):
        recommender.recommend({}, history=[True])


def test_what_is_no_history_and_what_says_it_twice_is_refused():
    recommender = made("two towers")
    for wrong in ("s1", 3, {"s1": 1}.keys):
        with pytest.raises(DataError, match="history: expected a list of keys"):
            Request({}, history=wrong)
    with pytest.raises(DataError, match=r"'recent'.*not both"):
        recommender.recommend({"user": "u1", "recent": ["s1"]}, history=["s2"])
    assert recommender.recommend({"user": "u1", "recent": None}, history=["s2"]).height == 10
    with pytest.raises(DataError, match="the key, as 'user'"):
        recommender.recommend({})
    with pytest.raises(DataError, match="a string key"):
        recommender.recommend({"user": None}, history=["s1"])
    with pytest.raises(DataError, match="'size'"):
        recommender.recommend({"size": 3}, history=["s1"])


@pytest.mark.parametrize("ranking", [False, True])
def test_what_an_anonymous_query_lacks_is_blank(ranking):
    """Age and kind may not be null: without a history, such a query gets what is popular."""
    rows = rr.data.with_recent_candidates(HISTORY, query="user", candidate="song", time="time", length=5)
    rows = rows.with_columns(kind=pl.when(pl.col("age") > 25).then(pl.lit("old")).otherwise(pl.lit("young")))
    kinds = {"user": F.Categorical(), "song": F.Categorical(), "age": F.Normalized(), "kind": F.Categorical()}
    space = rr.FeatureSpace({**kinds, "recent": F.Recent("song", decay=0.3)}).fit(rows)
    torch.manual_seed(0)
    names = ["user", "age", "kind", "recent"]
    model = rr.models.TwoTower(
        rr.models.Tower(space, names, layers=[8]), rr.models.Tower(space, ["song"], layers=[8]), rr.tasks.Retrieval()
    )
    ranker = rr.models.Reranker(space, ["kind", "song"], candidate_id="song", recent="recent") if ranking else None
    recommender = rr.Recommender(
        retrieval=model, ranking=ranker, space=space, catalogue=SONGS.select("song"), history=HISTORY, queries=rows,
        time="time", progress=False,
    )  # fmt: skip
    played = PLAYED[:3]
    found = recommender.recommend({}, k=60, history=played, exclude_seen=False)
    assert set(found["stage"]) == {"ranking" if ranking else "retrieval"}
    (ids,) = space.transform(pl.DataFrame({"recent": [played]}), ["recent"])["recent"].to_lists()
    weights = torch.exp(-0.3 * torch.tensor([2.0, 1.0, 0.0]))
    batch = rr.Batch(
        {
            "user": torch.tensor([1]),
            "age": torch.zeros(1),
            "kind": torch.tensor([0]),
            "recent": rr.Jagged(torch.tensor(ids), torch.tensor([0, 3]), weights),
        }
    )
    with torch.inference_mode():
        candidates = recommender.retrieval.embed_candidates(recommender.catalogue.batch)
        scores = (recommender.retrieval.query_embeddings(batch) @ candidates.T)[0]
    flat = recommender.without_ranking().recommend({}, k=60, history=played, exclude_seen=False)
    np.testing.assert_allclose(flat["score"], [scores[KEYS.index(key)] for key in flat["song"]], atol=1e-5)
    assert set(recommender.recommend("nobody")["stage"]) == {"popularity"}
    assert set(recommender.recommend({}, history=["nothing"])["stage"]) == {"popularity"}
    asked = [Request({}, history=played), Request({"user": "nobody"}), Request({"user": "u1"}, history=played)]
    alone = [recommender.recommend(one.query, history=one.history).select(LISTED) for one in asked]
    assert same_lists(recommender.recommend_many(asked).select(LISTED), pl.concat(alone))


def test_features_of_an_anonymous_query_count():
    recommender = made("two towers")
    found = recommender.recommend({"age": 60.0}, history=["s1"])
    assert not found.equals(recommender.recommend({}, history=["s1"]))
    assert found.equals(recommender.recommend({"user": "somebody", "age": 60.0}, history=["s1"]))
    assert set(recommender.recommend({"age": 60.0}, history=[])["stage"]) == {"retrieval"}  # the age says something
