"""One score of several tasks, alone and as the ranking stage of a recommender."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import retrank as rr

BATCH = rr.Batch(
    {
        "user": torch.tensor([2, 3, 4, 2, 5, 6]),
        "movie": torch.tensor([2, 2, 3, 3, 4, 4]),
        "click": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
        "stars": torch.tensor([4.0, 2.0, 5.0, 3.0, 2.0, 1.0]),
    }
)


def build(schema=(("user", 10), ("movie", 10)), experts=None):
    torch.manual_seed(0)
    tasks = {
        "click": rr.tasks.Ranking(metrics=[rr.metrics.AUC()]),
        "stars": rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]),
    }
    tables = {name: rr.EmbeddingTable(rows, 4, scale=2.0) for name, rows in schema}
    return rr.models.MultiTaskRanking(rr.EmbeddingCollection(tables), tasks, experts=experts, tower_layers=[8])


def test_scores_are_weighted_predictions_and_clicks_count_as_probabilities():
    model = build()
    click, stars = model(BATCH).detach().double().numpy().T
    probability = 1 / (1 + np.exp(-click))
    for score, expected in [
        ("click", probability),
        ("stars", stars),
        ({"click": 2, "stars": 0.5}, 2 * probability + 0.5 * stars),
        ({"stars": -1.0, "click": 0.0}, -stars),
    ]:
        np.testing.assert_allclose(rr.models.TaskScore(model, score)(BATCH).detach().numpy(), expected, rtol=1e-5)
    assert rr.models.TaskScore(model, "click")(BATCH[:1]).shape == (1,)


def test_a_task_of_weight_zero_cannot_spoil_a_score():
    model = build()
    with torch.no_grad():
        model.towers[1].linears[-1].bias.fill_(torch.nan)
    assert rr.models.TaskScore(model, {"click": 1.0, "stars": 0.0})(BATCH).isfinite().all()


def test_it_trains_and_evaluates_the_model_underneath():
    model = build()
    score = rr.models.TaskScore(model, "click")
    batches = rr.data.Loader(BATCH, 6)
    assert score.evaluate(batches) == model.evaluate(batches)
    before = model.evaluate(batches)["loss"]
    score.fit(batches, optimizer=rr.optim.LazyAdam(lr=0.01), epochs=5, progress=False)
    assert model.evaluate(batches)["loss"] < before


@pytest.mark.parametrize("score", ["like", {"like": 1.0}, {}, {"click": 0.0}, {"click": float("nan")}])
def test_bad_scores_are_refused(score):
    with pytest.raises(rr.errors.ConfigError, match="score of TaskScore"):
        rr.models.TaskScore(build(), score)


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    plays = pl.DataFrame({"user": rng.integers(0, 20, 300), "song": rng.integers(0, 30, 300)}).unique()
    songs = pl.DataFrame({"song": range(30)})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    retrieval = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
    return {"retrieval": retrieval, "space": space, "catalogue": songs, "history": plays, "num_retrieved": 30}


@pytest.mark.parametrize("kind", ["MLP", "MMoE", "PLE"])
def test_a_bundle_keeps_the_tasks_and_what_orders(parts, tmp_path, kind):
    tasks = {} if kind == "MLP" else {"tasks": ["click", "stars"]}
    experts = getattr(rr.layers, kind)(None, [[8], [6]] if kind == "PLE" else [8, 6], **tasks)
    schema = parts["space"].schema
    model = build([(name, schema[name]) for name in ("user", "song")], experts)
    recommender = rr.Recommender(**parts, ranking=rr.models.TaskScore(model, {"click": 1.0, "stars": -0.5}))
    recommender.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    assert again.ranking.weights == {"click": 1.0, "stars": -0.5}
    assert again.ranking.model.task_names == ("click", "stars")
    users = pl.DataFrame({"user": range(20)})
    assert again.recommend_many(users, k=5).equals(recommender.recommend_many(users, k=5))

    lists = recommender.recommend({"user": 3}, k=30, exclude_seen=False)
    pairs = parts["space"].transform(lists.with_columns(user=pl.lit(3)))
    click, stars = model(pairs).detach().unbind(dim=1)
    np.testing.assert_allclose(lists["score"], (click.sigmoid() - stars / 2).numpy(), rtol=1e-4, atol=1e-5)
    assert lists["score"].is_sorted(descending=True)
    assert lists["score"].n_unique() > 1


def test_another_score_of_the_same_model_orders_otherwise(parts):
    schema = parts["space"].schema
    model = build([(name, schema[name]) for name in ("user", "song")])
    orders = [
        rr.Recommender(**parts, ranking=rr.models.TaskScore(model, {"stars": weight})).recommend(
            {"user": 3}, k=30, exclude_seen=False
        )["song"].to_list()
        for weight in (1.0, -1.0)
    ]  # fmt: skip
    assert orders[0] == orders[1][::-1]


def test_a_recommender_asks_what_orders(parts):
    schema = parts["space"].schema
    with pytest.raises(rr.errors.ConfigError, match=r"'click', 'stars'.*rr\.models\.TaskScore\(model, 'click'\)"):
        rr.Recommender(**parts, ranking=build([(name, schema[name]) for name in ("user", "song")]))
