from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

import retrank as rr

USERS, SONGS = 60, 400


@pytest.fixture(scope="module")
def plays():
    rng = np.random.default_rng(0)
    pairs = [(f"u{user}", f"s{song}") for user in range(USERS) for song in rng.choice(SONGS, 30, replace=False)]
    return pl.DataFrame(pairs, schema=["user", "song"], orient="row")


def build(plays, index_type):
    songs = pl.DataFrame({"song": [f"s{song}" for song in range(SONGS)], "year": range(SONGS)})
    names = {"user": rr.features.Categorical(), "song": rr.features.Categorical()}
    space = rr.FeatureSpace(names).fit(plays)
    torch.manual_seed(0)
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], dim=8, task=rr.tasks.Retrieval())
    index = model.build_index(space.catalogue(songs, key="song"), index_type)
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays, index=index)


def in_pieces(embeddings, keys):
    return rr.index.Streaming(lambda: [(embeddings[:150], keys[:150]), (embeddings[150:], keys[150:])])


@pytest.mark.parametrize(
    "index_type",
    [
        partial(rr.index.Faiss, factory="HNSW16"),
        partial(rr.index.Faiss, factory="IVF8,Flat", effort=8),
        partial(rr.index.Faiss, factory="IVF8,SQ8", effort=3),
        partial(rr.index.Faiss, factory="IVF8,PQ3x4", effort=8, rescore=4),
        in_pieces,
    ],
    ids=["graph", "lists", "codes", "rescored codes", "streaming"],
)
def test_a_bundle_brings_its_index_back(plays, index_type, tmp_path):
    pytest.importorskip("faiss")
    recommender = build(plays, index_type)
    recommender.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    assert type(again.index) is type(recommender.index)
    everyone = pl.DataFrame({"user": [f"u{user}" for user in range(USERS)]})
    where = pl.col("year") < 200
    for arguments in ({}, {"where": where}, {"deny": ["s1", "s7"]}, {"exclude_seen": False}):
        lists = recommender.recommend_many(everyone, k=9, **arguments)
        assert again.recommend_many(everyone, k=9, **arguments).equals(lists)
        assert len(lists) == 9 * USERS
    lists = recommender.recommend_many(everyone, k=9, where=where)
    assert len(lists.join(plays, on=["user", "song"], how="semi")) == 0
    assert (lists["song"].str.strip_prefix("s").cast(pl.Int64) < 200).all()


def test_an_index_that_looks_at_everything_gives_the_lists_of_the_exact_one(plays):
    pytest.importorskip("faiss")
    everyone = pl.DataFrame({"user": [f"u{user}" for user in range(USERS)]})
    exact, lists = (
        build(plays, index_type).recommend_many(everyone, k=20)
        for index_type in (rr.index.Exact, partial(rr.index.Faiss, factory="IVF8,Flat", effort=8))
    )
    assert exact.equals(lists)


def test_new_candidates_go_into_the_index_that_is_there(plays):
    pytest.importorskip("faiss")
    new = pl.DataFrame({"song": ["new"], "year": [2024]})
    old = build(plays, partial(rr.index.Faiss, factory="IVF8,Flat", effort=8))
    recommender = old.with_candidates(new)
    assert isinstance(recommender.index, rr.index.Faiss)
    assert recommender.recommend({"user": "u1"}, where=pl.col("year") == 2024)["song"].to_list() == ["new"]
    assert old.recommend({"user": "u1"}, where=pl.col("year") == 2024).is_empty()
    fixed = build(plays, in_pieces)
    with pytest.raises(rr.errors.ConfigError, match="with_added"):
        fixed.with_candidates(new)
    assert len(fixed.catalogue) == SONGS
