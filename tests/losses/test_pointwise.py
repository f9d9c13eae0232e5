import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, ShapeError
from retrank.losses import FocalLoss, WeightedBCELoss

KINDS = [WeightedBCELoss, FocalLoss]


def slow_focal(logit, label, gamma, alpha):
    p = 1 / (1 + math.exp(-logit))
    share, other = (1, 1) if alpha is None else (alpha, 1 - alpha)
    positive, negative = -share * (1 - p) ** gamma * math.log(p), -other * p**gamma * math.log(1 - p)
    return label * positive + (1 - label) * negative


ROWS = st.lists(st.tuples(st.floats(-8, 8), st.sampled_from([0.0, 0.25, 1.0])), max_size=8)


@settings(max_examples=40)
@given(ROWS, st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([None, 0.25]))
def test_focal_loss(rows, gamma, alpha):
    logits, labels = (torch.tensor([row[i] for row in rows], dtype=torch.float64) for i in range(2))
    got = FocalLoss(gamma, alpha=alpha, reduction="none")(logits, labels)
    expected = [slow_focal(logit, label, gamma, alpha) for logit, label in rows]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


@settings(max_examples=40)
@given(ROWS, st.sampled_from([0.5, 1.0, 7.0]))
def test_weighted_bce_is_torchs(rows, positive_weight):
    logits, labels = (torch.tensor([row[i] for row in rows], dtype=torch.float64) for i in range(2))
    got = WeightedBCELoss(positive_weight, reduction="none")(logits, labels)
    theirs = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor(positive_weight))
    torch.testing.assert_close(got, theirs(logits, labels))


def test_focal_without_focus_is_cross_entropy():
    logits, labels = torch.randn(20), torch.randint(0, 2, (20,))
    torch.testing.assert_close(FocalLoss(0.0)(logits, labels), WeightedBCELoss()(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_saturated_logits_keep_a_finite_gradient(gamma):
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    loss = FocalLoss(gamma, reduction="none")(logits, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 200.0, 200.0, 0.0]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -1.0, 1.0, 0.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_mask_and_weight(kind):
    logits = torch.tensor([[0.5, torch.nan], [-1.0, torch.inf]], requires_grad=True)
    labels = torch.tensor([[1, 9], [0, 1]])
    mask = torch.tensor([[True, False], [True, True]])
    weight = torch.tensor([[2.0, 1.0], [3.0, 0.0]])
    alone = kind(reduction="none")(torch.tensor([0.5, -1.0]), torch.tensor([1, 0]))
    loss = kind()(logits, labels, mask=mask, weight=weight)
    assert loss.item() == pytest.approx((2 * alone[0] + 3 * alone[1]).item() / 4)
    kind()(logits, labels, mask=mask & (weight > 0)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1] == 0).all()
    assert kind()(torch.zeros(0), torch.zeros(0)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_bad_shapes(kind):
    with pytest.raises(ShapeError, match=r"labels of shape \(3,\)"):
        kind()(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ShapeError, match="weight"):
        kind()(torch.zeros(3), torch.zeros(3), weight=torch.ones(1))
    with pytest.raises(ShapeError, match="float logits"):
        kind()(torch.zeros(3, dtype=torch.int64), torch.zeros(3))


def test_bad_arguments():
    with pytest.raises(ConfigError, match="positive_weight"):
        WeightedBCELoss(0.0)
    with pytest.raises(ConfigError, match="gamma"):
        FocalLoss(-1.0)
    with pytest.raises(ConfigError, match="alpha"):
        FocalLoss(alpha=1.0)
    with pytest.raises(ConfigError, match="reduction"):
        FocalLoss(reduction="max")


@pytest.mark.parametrize("loss", [WeightedBCELoss(4.0), FocalLoss(1.5, alpha=0.3)])
def test_they_fit_the_ranking_task_and_json(loss):
    again = rr.core.from_config(rr.core.to_config(loss))
    assert (type(again), again.config) == (type(loss), loss.config)
    logits, labels = torch.randn(5), torch.randint(0, 2, (5,))
    task = rr.tasks.Ranking(loss=again, prediction_transform=torch.nn.Sigmoid())
    torch.testing.assert_close(task(labels=labels, predictions=logits), loss(logits, labels))
