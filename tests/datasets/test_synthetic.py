import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr


@pytest.fixture(scope="module")
def world():
    return rr.datasets.synthetic(300, 300, 60_000, seed=3)


@settings(max_examples=25)
@given(num_queries=st.integers(1, 30), num_candidates=st.integers(1, 40), num_interactions=st.integers(1, 100))
def test_any_size(num_queries, num_candidates, num_interactions):
    world = rr.datasets.synthetic(num_queries, num_candidates, num_interactions, seed=0, dim=2)
    assert world.interactions.height == num_interactions
    assert world.queries["query_id"].to_list() == list(range(num_queries))
    keys = range(num_queries, num_queries + num_candidates)
    assert world.candidates["candidate_id"].to_list() == list(keys)
    assert set(world.interactions["candidate_id"]) <= set(keys)
    assert world.interactions["timestamp"].is_sorted()
    seen = world.interactions["query_id"].n_unique()
    assert seen == (num_queries if num_interactions >= num_queries else num_interactions)
    assert world.interactions.null_count().sum_horizontal()[0] == 0


def test_schema(world):
    assert dict(world.interactions.schema) == {
        "query_id": pl.Int64(), "candidate_id": pl.Int64(), "timestamp": pl.Int64(),
        "rating": pl.Float32(), "label": pl.Float32(),
    }  # fmt: skip
    assert dict(world.queries.schema) == {"query_id": pl.Int64(), "group": pl.String(), "level": pl.Float32()}
    assert dict(world.candidates.schema) == {
        "candidate_id": pl.Int64(), "category": pl.String(), "tags": pl.List(pl.String()), "price": pl.Float32(),
    }  # fmt: skip
    assert set(world.interactions["rating"]) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert (world.interactions["label"] == (world.interactions["rating"] >= 4)).all()


def test_the_seed_decides_everything():
    one, same, other = (rr.datasets.synthetic(20, 30, 500, seed=seed) for seed in (1, 1, 2))
    for table in ("interactions", "queries", "candidates"):
        assert getattr(one, table).equals(getattr(same, table))
        assert not getattr(one, table).equals(getattr(other, table))
    assert np.array_equal(one.query_vectors, same.query_vectors)


def test_best_is_the_sorted_affinity(world):
    queries = np.array([7, 0, 7, 299])
    truth = np.array([[float(u @ v) for v in world.candidate_vectors] for u in world.query_vectors[queries]])
    wanted = np.argsort(-truth, axis=1, kind="stable") + 300
    for k in (1, 10, 300):
        assert np.array_equal(world.best(queries, k), wanted[:, :k])
    pairs = world.affinity(queries, wanted[:, 0])
    assert pairs == pytest.approx(truth.max(axis=1), abs=1e-6)
    assert world.best(pl.Series([], dtype=pl.Int64), 2).shape == (0, 2)


def counts(world):
    table = np.zeros((300, 300))
    np.add.at(table, (world.interactions["query_id"], world.interactions["candidate_id"] - 300), 1)
    return table


def test_preferences_can_be_learned_and_not_when_transposed(world):
    table = counts(world)
    # taken / shown is what is left of the choices when popularity is divided out
    rate = np.log1p(table / (table.sum(axis=1, keepdims=True) * world.popularity))
    left, values, right = np.linalg.svd(rate - rate.mean(axis=0))
    learned = (left[:, :8] * values[:8]) @ right[:8]

    def overlap(scores):
        top = np.argsort(-scores, axis=1)[:, :20] + 300
        best = world.best(np.arange(300), 20)
        return np.mean([len(set(a) & set(b)) / 20 for a, b in zip(top, best, strict=True)])

    assert overlap(learned) > 0.5
    assert overlap(learned.T) < 0.2
    assert overlap(np.tile(world.popularity, (300, 1))) < 0.15


def test_features_tell_something_about_preferences(world):
    pairs = world.interactions.join(world.queries, on="query_id").join(world.candidates, on="candidate_id")
    by_category = pairs.group_by("group", "category").len()
    independent = (
        by_category.join(by_category.group_by("group").agg(g=pl.col("len").sum()), on="group")
        .join(by_category.group_by("category").agg(c=pl.col("len").sum()), on="category")
        .select(((pl.col("len") * 60_000 / (pl.col("g") * pl.col("c"))).log() * pl.col("len") / 60_000).sum())
        .item()
    )
    assert independent > 0.1  # nats of mutual information


def test_popular_candidates_are_taken_more_but_not_liked_more(world):
    taken = counts(world).sum(axis=0)
    popular = np.argsort(-world.popularity)
    assert taken[popular[:30]].mean() > 3 * taken[popular[150:]].mean()
    mean = (world.query_vectors @ world.candidate_vectors.T).mean(axis=0)
    assert abs(np.corrcoef(np.log(world.popularity), mean)[0, 1]) < 0.2
    flat = rr.datasets.synthetic(50, 50, 10, seed=0, popularity=0.0)
    assert np.allclose(flat.popularity, 1 / 50)


def test_temperature():
    def affinity(temperature):
        world = rr.datasets.synthetic(100, 100, 5000, seed=0, temperature=temperature)
        return world.affinity(world.interactions["query_id"], world.interactions["candidate_id"]).mean()

    assert affinity(0.001) > affinity(0.1) > affinity(10.0) + 0.3
    assert abs(affinity(1000.0)) < 0.1


def test_choices_follow_the_declared_softmax():
    world = rr.datasets.synthetic(1, 3, 200_000, seed=5, temperature=0.5, popularity=0.0)
    share = np.bincount(world.interactions["candidate_id"] - 1, minlength=3) / 200_000
    # simulate the rule naively: 32 shown at random, one taken by softmax
    rng = np.random.default_rng(0)
    weight = np.exp((world.candidate_vectors @ world.query_vectors[0]) / 0.5)
    wanted = np.zeros(3)
    for _ in range(4000):
        shown = np.bincount(rng.integers(3, size=32), minlength=3) * weight
        wanted += shown / shown.sum() / 4000
    assert share == pytest.approx(wanted, abs=0.01)


def test_bad_arguments(world):
    for sizes in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(rr.errors.ConfigError, match="at least 1"):
            rr.datasets.synthetic(*sizes, seed=0)
    for options in ({"temperature": 0.0}, {"temperature": float("nan")}, {"popularity": -1.0}, {"dim": 1}):
        with pytest.raises(rr.errors.ConfigError, match=next(iter(options))):
            rr.datasets.synthetic(2, 2, 2, seed=0, **options)
    for k in (0, 301):
        with pytest.raises(rr.errors.ConfigError, match="k: expected"):
            world.best([0], k)
    with pytest.raises(rr.errors.DataError, match="query_id, row 1"):
        world.best([0, 300], 1)
    with pytest.raises(rr.errors.DataError, match="candidate_id, row 0"):
        world.affinity([0], [0])
    with pytest.raises(rr.errors.DataError, match="query_id"):
        world.best(["a"], 1)
