"""A `Seen` feature of the candidates is read from the history, which needs no times."""

import polars as pl
import pytest
import torch

import retrank as rr
from retrank.core.errors import ConfigError

PLAYS = pl.DataFrame({"user": list("aaabbcaa"), "song": list("xyzxwyxx")})
SONGS = pl.DataFrame({"song": list("vwxyz")})


def recommender(kind, column, plays=PLAYS):
    kinds = {"user": rr.features.Categorical(), "song": rr.features.Categorical(), column: kind}
    train = rr.data.with_seen_candidates(plays, query="user", candidate="song", length=2, name=column)
    space = rr.FeatureSpace(kinds).fit(train)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"], residual=column),
        rr.models.Tower(space, ["song"], residual="song"),
        rr.tasks.Retrieval(),
        tie_residuals=True,
    )
    return rr.Recommender(retrieval=model, space=space, catalogue=SONGS, history=plays)


def scores(recommender, query):
    lists = recommender.recommend(query, k=5, exclude_seen=False)
    return dict(lists.select("song", "score").iter_rows())


def of_lists(recommender, user, songs):
    """Return the scores of a query that has these songs, in any order."""
    space, model = recommender.space, recommender.retrieval
    batch = space.transform(pl.DataFrame({"user": [user], "seen": [songs]}), features=["user", "seen"])
    with torch.inference_mode():
        queries, candidates = model.query_embeddings(batch), recommender.index
        found, keys = candidates.search(queries, k=5)
    return dict(zip(keys[0], found[0].tolist(), strict=True))


def test_a_query_is_what_it_has_in_the_history_each_candidate_once():
    made = recommender(rr.features.Seen("song"), "seen")
    for user, songs in {"a": ["z", "y", "x"], "b": ["w", "x"], "c": ["y"]}.items():
        assert scores(made, {"user": user}) == pytest.approx(of_lists(made, user, songs), abs=1e-5)
    assert made.queries.table.sort("user")["seen"].list.sort().to_list() == [["x", "y", "z"], ["w", "x"], ["y"]]


def test_new_events_count_at_once_and_the_bundle_answers_alike(tmp_path):
    made = recommender(rr.features.Seen("song"), "seen")
    live = made.with_events(pl.DataFrame({"user": ["c", "c"], "song": ["v", "y"]}))
    assert scores(live, {"user": "c"}) == pytest.approx(of_lists(made, "c", ["v", "y"]), abs=1e-5)
    live.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    assert scores(again, {"user": "c"}) == scores(live, {"user": "c"})
    assert again.recommend_many(["a", "b", "c"], k=3).equals(live.recommend_many(["a", "b", "c"], k=3))


def test_what_a_query_brings_stands_in_for_its_history_and_counts_as_seen():
    made = recommender(rr.features.Seen("song"), "seen")
    brought = made.recommend({"user": "c", "seen": ["w"]}, k=5)["song"].to_list()
    assert sorted(brought) == ["v", "x", "z"]  # y is in the history
    assert scores(made, {"user": "c", "seen": ["w"]}) == pytest.approx(of_lists(made, "c", ["w"]), abs=1e-5)


def test_a_feature_of_what_came_last_asks_for_times():
    with pytest.raises(ConfigError, match="rr.features.Seen"):
        recommender(rr.features.Recent("song"), "recent")


def test_an_update_learns_from_what_else_a_query_has():
    made = recommender(rr.features.Seen("song"), "seen")
    updated = rr.update(made, pl.DataFrame({"user": ["c", "b"], "song": ["z", "z"]}), progress=False)
    assert updated.queries.table.sort("user")["seen"].list.sort().to_list()[2] == ["y", "z"]
    with pytest.raises(AssertionError):  # the weights have moved
        assert scores(updated, {"user": "a"}) == pytest.approx(scores(made, {"user": "a"}), abs=1e-5)
