import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import retrank as rr

NAN = float("nan")
BATCH = rr.Batch(
    {
        "user": torch.tensor([2, 3, 4, 2, 5, 6]),
        "movie": torch.tensor([2, 2, 3, 3, 4, 4]),
        "age": torch.linspace(0, 1, 6),
        "click": torch.tensor([1.0, 0.0, NAN, 1.0, NAN, 0.0]),
        "stars": torch.tensor([NAN, 2.0, 5.0, NAN, NAN, 1.0]),
        "buy": torch.full((6,), NAN),
        "weight": torch.tensor([1.0, 2.0, 1.0, 0.0, 3.0, 0.5]),
    }
)


def build(names=("click", "stars"), **arguments):
    torch.manual_seed(0)
    kinds = {
        "click": rr.tasks.Ranking(metrics=[rr.metrics.AUC(), rr.metrics.LabelMean()]),
        "stars": rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]),
        "buy": rr.tasks.Ranking(metrics=[rr.metrics.LabelMean()]),
    }
    tables = {name: rr.EmbeddingTable(10, 4, scale=0.5) for name in ("user", "movie")}
    return rr.models.MultiTaskRanking(
        rr.EmbeddingCollection(tables),
        {name: kinds[name] for name in names},
        dense_features=["age"],
        tower_layers=[8],
        **{"experts": rr.layers.MLP(None, [8], final_activation=nn.ReLU()), **arguments},
    )


def losses_by_hand(model, weight=None):
    """Mean loss of each task over the rows that have its label."""
    predictions = model(BATCH).detach().double().numpy()
    results = []
    for column, name in zip(predictions.T, model.task_names, strict=True):
        labels = BATCH[name].double().numpy()
        known = ~np.isnan(labels)
        score, label = column[known], labels[known]
        each = (score - label) ** 2 if name == "stars" else np.log1p(np.exp(score)) - label * score
        each = each if weight is None else each * weight[known]
        results.append(each.sum() / max(known.sum(), 1))
    return results


def test_the_loss_is_the_sum_of_means_over_rows_with_a_label():
    model = build()
    assert model.compute_loss(BATCH).item() == pytest.approx(sum(losses_by_hand(model)), rel=1e-5)
    model = build(weight="weight")
    expected = sum(losses_by_hand(model, BATCH["weight"].double().numpy()))
    assert model.compute_loss(BATCH).item() == pytest.approx(expected, rel=1e-5)


def test_tasks_have_weights():
    model = build(task_weights={"stars": 0.25})
    click, stars = losses_by_hand(model)
    assert model.compute_loss(BATCH).item() == pytest.approx(click + stars / 4, rel=1e-5)


def test_uncertainty_weighs_by_learned_variances():
    model = build(task_weights="uncertainty")
    model.log_variances.data = torch.tensor([0.5, -1.0])
    click, stars = losses_by_hand(model)
    expected = click / math.exp(0.5) + stars / (2 * math.exp(-1)) + (0.5 - 1.0) / 2
    loss = model.compute_loss(BATCH)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    slopes = [-click / math.exp(0.5) + 1 / 2, -stars / (2 * math.exp(-1)) + 1 / 2]
    np.testing.assert_allclose(model.log_variances.grad.numpy(), slopes, rtol=1e-4)
    assert any(parameter is model.log_variances for parameter in model.dense_parameters)


def test_the_learned_variance_of_a_squared_error_is_its_variance():
    model = build(["stars"], task_weights="uncertainty")
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is model.log_variances)
    optimizer = torch.optim.SGD([model.log_variances], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        model.compute_loss(BATCH).backward()
        optimizer.step()
    assert model.log_variances.exp().item() == pytest.approx(losses_by_hand(model)[0], rel=1e-3)


@pytest.mark.parametrize("task_weights", [None, "uncertainty"])
def test_a_task_without_any_label_moves_nothing(task_weights):
    model = build(["click", "buy"], task_weights=task_weights)
    loss = model.compute_loss(BATCH)
    assert loss.item() == pytest.approx(losses_by_hand(model)[0], rel=1e-5)
    loss.backward()
    assert not any(parameter.grad.any() for parameter in model.towers[1].parameters())
    if task_weights:
        assert model.log_variances.grad[1] == 0


def test_a_missing_label_teaches_nothing_to_its_task():
    model = build(["click"])
    model.compute_loss(BATCH).backward()
    rows = model.embeddings["user"].weight.grad.to_dense().abs().sum(dim=1).nonzero().flatten().tolist()
    assert set(rows) <= {2, 3, 6}  # users 4 and 5 have no click label


def test_metrics_bear_the_name_of_their_task_and_count_its_rows_only():
    model = build()
    results = model.evaluate(rr.data.Loader(BATCH, 6))
    assert list(results) == ["click.auc", "click.label_mean", "stars.rmse", "loss", "regularization_loss", "total_loss"]
    assert results["click.label_mean"] == pytest.approx(0.5)
    assert results["stars.rmse"] == pytest.approx(losses_by_hand(model)[1] ** 0.5, rel=1e-5)
    assert results["loss"] == pytest.approx(sum(losses_by_hand(model)), rel=1e-5)


def test_the_given_tasks_stay_as_they_are():
    task = rr.tasks.Ranking(metrics=[rr.metrics.AUC()])
    tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4)})
    model = rr.models.MultiTaskRanking(tables, {"click": task, "buy": task})
    model.compute_loss(BATCH)
    assert task.metrics[0].name == "auc"
    assert task.results() == {}
    assert model.tasks[0].metrics[0] is not model.tasks[1].metrics[0]


def test_labels_may_have_other_names():
    model, renamed = build(), build(labels={"click": "clicked"})
    batch = BATCH.merge({"clicked": BATCH["click"]})
    assert renamed.compute_loss(batch) == model.compute_loss(batch)


def test_integer_labels_are_never_missing():
    model = build(["click"])
    whole = BATCH.merge({"click": torch.tensor([1, 0, 0, 1, 0, 0])})
    assert model.compute_loss(whole) == model.compute_loss(whole.merge({"click": whole["click"].float()}))


@pytest.mark.parametrize("kind", ["MMoE", "CGC", "PLE"])
def test_experts_give_every_task_its_own_vector(kind):
    units = [[8], [6]] if kind == "PLE" else [8, 6]
    model = build(experts=getattr(rr.layers, kind)(None, units, tasks=["stars", "click"]))  # another order
    inputs = [model.embeddings(BATCH)[name] for name in ("movie", "user")]
    vectors = model.experts(torch.cat([*inputs, BATCH["age"][:, None]], dim=1))
    expected = torch.cat([model.towers[0](vectors["click"]), model.towers[1](vectors["stars"])], dim=1)
    torch.testing.assert_close(model(BATCH), expected)
    assert model(BATCH[:1]).shape == (1, 2)


def test_numbers_may_pass_a_bottom_stack_and_meet_in_an_interaction():
    model = build(bottom_stack=rr.layers.MLP(None, [4]), feature_interaction=rr.layers.DotInteraction())
    assert model.experts.linears[0].in_features == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"names": []}, rr.errors.ConfigError, "one task"),
        ({"labels": {"like": "x"}}, rr.errors.ConfigError, "like"),
        ({"task_weights": {"like": 1.0}}, rr.errors.ConfigError, "like"),
        ({"task_weights": {"click": -1.0}}, rr.errors.ConfigError, "at least 0"),
        ({"task_weights": "equal"}, rr.errors.ConfigError, "uncertainty"),
        ({"experts": rr.layers.MMoE(None, [4], tasks=["click"])}, rr.errors.ShapeError, "experts"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**copy.deepcopy(arguments))


def test_a_bottom_stack_needs_numbers():
    tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4)})
    with pytest.raises(rr.errors.ConfigError, match="dense features"):
        rr.models.MultiTaskRanking(tables, {"click": rr.tasks.Ranking()}, bottom_stack=nn.Identity())
