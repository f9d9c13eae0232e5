"""`Ranking` on lists, against slow oracles in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, ShapeError
from retrank.losses import (
    ApproxNDCGLoss,
    LambdaLoss,
    ListMLELoss,
    ListwiseSoftmaxLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMeanSquaredError,
    PairwiseSoftZeroOneLoss,
)
from retrank.metrics import NDCG, LossMean, MeanReciprocalRank, RootMeanSquaredError
from retrank.tasks import Ranking

LOSSES = {
    type(loss).__name__: loss
    for loss in (
        ApproxNDCGLoss(),
        LambdaLoss(),
        ListMLELoss(),
        ListwiseSoftmaxLoss(),
        PairwiseHingeLoss(),
        PairwiseLogisticLoss(),
        PairwiseMeanSquaredError(),
        PairwiseSoftZeroOneLoss(),
    )
}


def list_mle(scores, labels, valid):
    kept = sorted((i for i in range(len(scores)) if valid[i]), key=lambda i: -labels[i])
    return [sum(math.log(sum(math.exp(scores[j] - scores[i]) for j in kept[n:])) for n, i in enumerate(kept))]


def hinge(scores, labels, valid):
    items = range(len(scores))
    worse = [[j for j in items if valid[i] and valid[j] and labels[j] < labels[i]] for i in items]
    return [sum(max(0.0, 1 - (scores[i] - scores[j])) for j in worse[i]) for i in items]


def squared(scores, labels, valid):
    return [(score - label) ** 2 if keep else 0.0 for score, label, keep in zip(scores, labels, valid, strict=True)]


ORACLES = {"list_mle": (ListMLELoss, list_mle), "hinge": (PairwiseHingeLoss, hinge), "squared": (nn.MSELoss, squared)}


def ndcg(scores, labels, valid):
    kept = [i for i in range(len(scores)) if valid[i]]
    dcg = lambda order: sum((2 ** labels[i] - 1) / math.log2(place + 2) for place, i in enumerate(order))  # noqa: E731
    best = dcg(sorted(kept, key=lambda i: -labels[i]))
    return dcg(sorted(kept, key=lambda i: -scores[i])) / best if best else 0.0


def draw(num_lists, length, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(num_lists, length)), rng.integers(0, 5, (num_lists, length)).astype(float)
    return scores, labels, rng.random((num_lists, length)) < 0.7, rng.integers(0, 3, num_lists).astype(float)


@pytest.mark.parametrize("kind", ORACLES)
@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_loss_and_ndcg_are_those_of_the_oracle(kind, num_lists, length, seed):
    build, oracle = ORACLES[kind]
    scores, labels, mask, weight = draw(num_lists, length, seed)
    task = Ranking(build(), metrics=[NDCG()], loss_metrics=[LossMean()])
    loss = task(
        labels=torch.tensor(labels),
        predictions=torch.tensor(scores),
        weight=torch.tensor(weight),
        mask=torch.tensor(mask),
    )
    rows = list(zip(scores, labels, mask, strict=True))
    entries = [[w * entry for entry in oracle(*row)] for w, row in zip(weight, rows, strict=True)]
    assert loss.item() == pytest.approx(np.mean(entries), rel=1e-6, abs=1e-9)
    assert task.results()["task_loss"].item() == pytest.approx(loss.item())
    counted = [w if row[2].any() else 0.0 for w, row in zip(weight, rows, strict=True)]
    if sum(counted):
        expected = np.average([ndcg(*row) for row in rows], weights=counted)
        assert task.results()["ndcg"].item() == pytest.approx(expected)
    else:
        assert task.results()["ndcg"].isnan()


@pytest.mark.parametrize("name", LOSSES)
def test_the_task_returns_the_mean_of_each_loss_of_lists(name):
    scores, labels, mask, weight = (torch.tensor(part) for part in draw(5, 4, 1))
    expected = LOSSES[name](scores, labels, mask=mask, weight=weight)
    assert Ranking(LOSSES[name])(labels, scores, weight=weight, mask=mask).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("loss", [*LOSSES.values(), nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=repr)
def test_what_is_masked_changes_nothing_and_gets_no_gradient(loss):
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.5], [0.0, 1.0, 0.2, 0.1]])
    mask = torch.tensor([[True, True, False, True], [False, False, False, False]])
    found = []
    for filler in (0.0, 9.0, math.nan, math.inf):
        predictions = torch.where(mask, torch.tensor([0.3, -0.2, 0.0, 0.9]), filler).requires_grad_()
        task = Ranking(loss, metrics=[NDCG(), MeanReciprocalRank(), RootMeanSquaredError()])
        value = task(torch.where(mask, labels, filler), predictions, mask=mask)
        value.backward()
        assert (predictions.grad[~mask] == 0).all()
        found.append((value.item(), *(result.item() for result in task.results().values())))
    assert len(set(found)) == 1
    assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=repr)
def test_labels_below_0_pad_lists_for_loss_and_metrics(loss):
    labels, predictions = torch.tensor([[3.0, 1.0, -1.0], [2.0, -1.0, -1.0]]), torch.tensor([[0.2, 0.9, 5.0]] * 2)
    metrics = lambda: [NDCG(), RootMeanSquaredError()]  # noqa: E731
    padded, masked = Ranking(loss, metrics=metrics()), Ranking(loss, metrics=metrics())
    one = padded(labels, predictions)
    other = masked(labels.clamp(min=0), predictions, mask=labels >= 0)
    assert one == other
    assert padded.results() == masked.results()
    assert padded.results()["rmse"].item() == pytest.approx(math.sqrt((2.8**2 + 0.1**2 + 1.8**2) / 3))


def test_labels_below_0_are_labels_to_a_loss_of_rows():
    assert Ranking(nn.MSELoss())(torch.tensor([[-1.0, 0.0]]), torch.zeros(1, 2)) == 0.5


@pytest.mark.parametrize("loss", [*LOSSES.values(), nn.MSELoss()], ids=repr)
def test_a_list_without_weight_takes_no_part(loss):
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    predictions = torch.tensor([[0.4, 0.1], [torch.inf, -torch.inf]])
    task = Ranking(loss, metrics=[NDCG()])
    value = task(labels, predictions, weight=torch.tensor([2.0, 0.0]))
    assert value == Ranking(loss)(labels[:1], predictions[:1])
    assert task.results()["ndcg"] == 1


def test_the_weight_of_a_row_is_that_of_all_its_predictions():
    labels, predictions, weight = torch.zeros(2, 3), torch.arange(6.0).view(2, 3), torch.tensor([1.0, 3.0])
    for loss in (nn.MSELoss(), PairwiseMeanSquaredError()):
        rows, items = (Ranking(loss, metrics=[RootMeanSquaredError()]) for _ in range(2))
        assert rows(labels, predictions, weight=weight) == items(
            labels, predictions, weight=weight[:, None].expand(2, 3)
        )
        assert rows.results() == items.results()
    square = Ranking(nn.MSELoss())(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), weight=weight)
    assert square == 0.5  # rows, not columns


def test_one_list_and_none():
    loss = Ranking(ListMLELoss())(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
    assert loss.item() == pytest.approx(math.log(2))
    task = Ranking(ListMLELoss(), metrics=[NDCG()])
    assert task(torch.ones(0, 3), torch.ones(0, 3)) == 0
    assert task.results() == {}


def test_bad_lists():
    task = Ranking(ListMLELoss())
    with pytest.raises(ShapeError, match=r"float scores of shape \(batch, list\).*\[None\]"):
        task(torch.ones(3), torch.ones(3))
    with pytest.raises(ShapeError, match=r"weight of shape \(2,\), got \(2, 3\)"):
        task(torch.ones(2, 3), torch.ones(2, 3), weight=torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"mask of the predictions' shape \(2, 3\), got \(2,\)"):
        task(torch.ones(2, 3), torch.ones(2, 3), mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(ShapeError, match="a bool mask, got torch.float32"):
        task(torch.ones(2, 3), torch.ones(2, 3), mask=torch.ones(2, 3))
    with pytest.raises(ConfigError, match="reduction 'mean'"):
        Ranking(ListMLELoss(reduction="sum"))


def test_a_custom_list_loss_has_an_entry_per_list():
    labels, predictions = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.zeros(2, 2)
    task = Ranking(nn.CrossEntropyLoss())
    assert task(labels, predictions).item() == pytest.approx(math.log(2))
    assert task(labels, predictions, weight=torch.tensor([2.0, 1.0])).item() == pytest.approx(1.5 * math.log(2))
    with pytest.raises(ShapeError, match=r"weight of shape \(2,\), got \(2, 2\)"):
        task(labels, predictions, weight=torch.ones(2, 2))
    with pytest.raises(ShapeError, match=r"derive it from rr\.losses\.ListLoss"):
        task(labels, predictions, mask=torch.ones(2, 2, dtype=torch.bool))


def test_is_rebuilt_from_json():
    task = Ranking(LambdaLoss("lambdarank", k=3, temperature=0.5), metrics=[NDCG(5)])
    again = rr.core.from_config(rr.core.to_config(task))
    assert (again.loss.weighting, again.loss.k, again.loss.temperature) == ("lambdarank", 3, 0.5)
    scores, labels, *_ = (torch.tensor(part) for part in draw(3, 4, 2))
    assert again(labels, scores) == task(labels, scores)
