"""What a query did: seen, recent as it stands now, sessions of unknown queries, and events that come in."""

import numpy as np
import polars as pl
import pytest
import torch
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import DataError

F = rr.features
NAMES = {"query": "user", "candidate": "song", "time": "time"}


def make_plays(users=30, songs=40, rows=600, seed=0):
    g = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{user}" for user in g.integers(0, users, rows)],
            "song": [f"s{song}" for song in g.integers(0, songs, rows)],
            "time": 1_700_000_000 + np.sort(g.permutation(10_000_000)[:rows]),
        }
    )


plays = make_plays()
songs = pl.DataFrame({"song": [f"s{song}" for song in range(40)], "year": range(40)})


def build(history, *, length=5, extra=(), seed=0, **arguments):
    train = rr.data.with_recent_candidates(plays, length=length, **NAMES)
    space = rr.FeatureSpace({"user": F.Categorical(), "song": F.Categorical(), "recent": F.Recent("song")}).fit(train)
    torch.manual_seed(seed)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["recent", *extra], layers=[8]), rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(), query_id="user",
    )  # fmt: skip
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=history, **arguments)


def lists(recommender, keys=tuple(f"u{user}" for user in range(30)), **arguments):
    return recommender.recommend_many(pl.DataFrame({"user": keys}), k=8, **arguments)


def recent_of(recommender):
    return dict(recommender.queries.table.select("user", "recent").rows())


def test_recent_is_the_latest_by_time_whatever_the_table_says_or_its_order():
    right = dict(rr.data.latest_candidates(plays, length=5, **NAMES).rows())
    stale = rr.data.with_recent_candidates(plays, length=5, **NAMES)
    recommenders = [
        build(table)
        for table in (plays, plays.reverse(), plays.sample(fraction=1.0, shuffle=True, seed=1), stale, stale.reverse())
    ]
    for recommender in recommenders:
        assert recent_of(recommender) == right
        assert lists(recommender).sort("user", "rank").equals(lists(recommenders[0]).sort("user", "rank"))
    asked = pl.DataFrame({"user": list(right), "recent": list(right.values())})
    assert same_lists(recommenders[0].recommend_many(asked, k=8), lists(recommenders[0], list(right)))


def test_as_many_recent_candidates_as_in_training():
    longest = {len(row) for row in recent_of(build(plays, length=2)).values()}
    assert longest == {2}


def test_what_a_session_brings_counts_as_seen():
    recommender = build(plays)
    sessions = pl.DataFrame({"user": ["x", "y", "u3"], "recent": [["s3", "s4", "s4"], ["s6", "no song"], ["s9"]]})
    found = recommender.recommend_many(sessions, k=40)
    for user, recent in sessions.rows():
        mine = found.filter(user=user)["song"].to_list()
        known = plays.filter(user=user)["song"].to_list()
        assert set(mine) == set(songs["song"]) - {*recent, *known}
        alone = recommender.recommend({"user": user, "recent": recent}, k=40)
        assert alone["song"].to_list() == mine
    kept = recommender.recommend({"user": "x", "recent": ["s3"]}, k=40, exclude_seen=False)
    assert kept.height == 40


def test_each_request_has_rules_of_its_own():
    recommender = build(plays)
    rules = [
        {},
        {"k": 3, "deny": ["s1", "s2"]},
        {"exclude_seen": False, "k": 20},
        {"where": pl.col("year") < 20},
        {"allow": ["s5", "s6", "s30"], "where": pl.col("year") < 20, "exclude_seen": False},
        {"k": 3, "deny": ["s7"]},
        {"k": 100},
    ]
    requests = [rr.recommender.Request({"user": f"u{place}"}, **rule) for place, rule in enumerate(rules)]
    many = recommender.recommend_many(requests)
    for place, rule in enumerate(rules):
        alone = recommender.recommend({"user": f"u{place}"}, **rule)
        assert same_lists(many.filter(user=f"u{place}").drop("user"), alone.select("song", "rank", "score", "stage"))
    assert recommender.recommend_many([]).is_empty()


def test_an_event_changes_the_next_answer():
    before = build(plays)
    old = lists(before)
    first = before.recommend({"user": "u1"}, k=1)["song"][0]
    events = pl.DataFrame({"user": ["u1", "new"], "song": [first, "s7"], "time": [1_800_000_000, 1_800_000_001]})
    after = before.with_events(events)
    assert first not in after.recommend({"user": "u1"}, k=40)["song"].to_list()
    assert recent_of(after)["u1"][-1] == first
    assert set(after.recommend({"user": "new"})["stage"]) == {"retrieval"}
    assert "s7" not in after.recommend({"user": "new"}, k=40)["song"].to_list()
    assert set(before.recommend({"user": "new"})["stage"]) == {"popularity"}
    assert lists(before).equals(old)
    others = [f"u{user}" for user in range(30) if user != 1]
    assert lists(after, others).equals(lists(before, others))


def test_events_bit_by_bit_are_the_whole_table():
    whole = build(plays)
    parts = build(plays[:100], queries=plays.select("user").unique())
    for first in range(100, 600, 7):
        parts = parts.with_events(plays[first : first + 7])
    everyone = [*(f"u{user}" for user in range(30)), "nobody"]
    assert lists(parts, everyone).equals(lists(whole, everyone))
    assert parts.seen.sort("user", "song").equals(whole.seen.sort("user", "song"))
    late = plays.sample(fraction=1.0, shuffle=True, seed=5)
    mixed = build(late[:300], queries=plays.select("user").unique()).with_events(late[300:])
    assert lists(mixed, everyone).equals(lists(whole, everyone))


def test_events_with_new_candidates_wait_for_the_catalogue():
    recommender = build(plays).with_events(pl.DataFrame({"user": ["u1"], "song": ["later"], "time": [1_800_000_000]}))
    assert recent_of(recommender)["u1"][-1] == "later"
    grown = recommender.with_candidates(pl.DataFrame({"song": ["later"], "year": [2024]}))
    found = grown.recommend_many(pl.DataFrame({"user": ["u1", "u2"]}), k=41)
    assert found.filter(song="later")["user"].to_list() == ["u2"]


def test_bad_events_are_refused():
    recommender = build(plays)
    for bad in ({"user": ["u1"], "song": ["s1"]}, {"user": [1], "song": ["s1"], "time": [5]}):
        with pytest.raises(DataError):
            recommender.with_events(pl.DataFrame(bad))


def test_a_bundle_keeps_events_times_and_order(tmp_path):
    recommender = build(plays.reverse()).with_events(
        pl.DataFrame({"user": ["u1", "new"], "song": ["s1", "later"], "time": [1_800_000_000, 5]})
    )
    recommender.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    everyone = [*(f"u{user}" for user in range(30)), "new", "nobody"]
    assert lists(again, everyone).equals(lists(recommender, everyone))
    assert recent_of(again) == recent_of(recommender)
    more = pl.DataFrame({"user": ["new"], "song": ["s2"], "time": [6]})
    assert lists(again.with_events(more), everyone).equals(lists(recommender.with_events(more), everyone))


def test_popularity_counts_different_queries_and_follows_events():
    recommender = build(plays, extra=["user"])
    counts = plays.unique(["user", "song"]).group_by("song").len()
    expected = songs.join(counts, on="song", how="left").with_columns(pl.col("len").fill_null(0))
    expected = expected.sort("len", descending=True, maintain_order=True).head(5)
    found = recommender.recommend({"user": "nobody"}, k=5)
    assert found["song"].to_list() == expected["song"].to_list()
    assert found["score"].to_list() == expected["len"].to_list()
    fans = pl.DataFrame({"user": [f"fan{i}" for i in range(50)] * 2, "song": ["s0"] * 100, "time": [1] * 100})
    hit = recommender.with_events(fans).recommend({"user": "nobody"}, k=1)
    assert hit["song"].to_list() == ["s0"]
    assert hit["score"][0] == 50 + plays.filter(song="s0")["user"].n_unique()


def test_the_column_of_times_can_be_named():
    odd = plays.rename({"time": "moment"})
    assert recent_of(build(odd, time="moment")) == recent_of(build(plays))
    dated = plays.with_columns(pl.from_epoch("time"))
    assert recent_of(build(dated)) == recent_of(build(plays))
    with pytest.raises(DataError, match="'nothing'"):
        build(plays, time="nothing")


def test_similar_candidates_are_the_nearest_by_cosine():
    recommender = build(plays)
    model, catalogue = recommender.retrieval, recommender.catalogue
    vectors = model.embed_candidates(catalogue.batch).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = recommender.similar("s3", k=5)
    cosines = vectors @ vectors[3]
    cosines[3] = -np.inf
    best = np.argsort(-cosines)[:5]
    assert found.columns == ["rank", "song", "score", "year"]
    assert found["song"].to_list() == [f"s{row}" for row in best]
    np.testing.assert_allclose(found["score"], cosines[best], atol=1e-5)
    late = recommender.similar("s3", k=50, where=pl.col("year") >= 30, deny=["s31"])
    assert set(late["song"]) == {f"s{year}" for year in range(30, 40)} - {"s31"}
    assert recommender.similar("s3", allow=["s3", "s4"])["song"].to_list() == ["s4"]
    for bad in ("no song", 3, None):
        with pytest.raises(DataError, match="candidate"):
            recommender.similar(bad)
