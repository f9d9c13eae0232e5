"""Labels, weights and arguments that a loss cannot take are refused where they enter; those it can take are not."""

import math

import pytest
import torch
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.losses.checks import checked, checked_log_q, checked_weight

L = rr.losses
NOT_FINITE = [math.nan, math.inf, -math.inf]
LISTS = [
    L.PairwiseHingeLoss,
    L.PairwiseLogisticLoss,
    L.PairwiseSoftZeroOneLoss,
    L.PairwiseMeanSquaredError,
    L.ListMLELoss,
    L.ListwiseSoftmaxLoss,
    L.ApproxNDCGLoss,
    L.LambdaLoss,
]
POINTS = [L.WeightedBCELoss, L.FocalLoss]
SAMPLED = [L.cross_entropy, L.bpr, L.bpr_max, L.top1, L.top1_v2, L.top1_max, L.logistic, L.hinge]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [-0.5, 1.5, 2.0, *NOT_FINITE])
@pytest.mark.parametrize("kind", POINTS)
def test_labels_of_binary_losses_lie_between_0_and_1(kind, bad, dtype):
    labels = torch.tensor([[0.0, 1.0], [0.5, bad]], dtype=dtype)
    with pytest.raises(DataError, match=rf"{kind.__name__}, labels, row 1, 1: expected labels from 0 to 1, got"):
        kind()(torch.zeros(2, 2), labels)
    mask = torch.tensor([[True, True], [True, False]])
    assert kind()(torch.zeros(2, 2), labels, mask=mask).isfinite()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", LISTS)
def test_labels_of_lists_are_finite(kind, bad, dtype):
    labels = torch.tensor([[0.0, 1.0], [bad, 0.5]], dtype=dtype)
    with pytest.raises(DataError, match=rf"{kind.__name__}, labels, row 1, 0: expected finite labels"):
        kind()(torch.zeros(2, 2), labels)
    mask = torch.tensor([[True, True], [False, True]])
    assert kind()(torch.zeros(2, 2), labels, mask=mask).isfinite()


@pytest.mark.parametrize("kind", [L.ApproxNDCGLoss, L.LambdaLoss])
def test_gains_that_leave_float32_are_refused(kind):
    labels = torch.tensor([[1995, 3]])
    with pytest.raises(DataError, match=r"of at most 100, since gains are 2\^label, got 1995"):
        kind()(torch.zeros(1, 2), labels)
    scores = torch.zeros(1, 2000, requires_grad=True)
    loss = kind()(scores, torch.tensor([[100, 0] * 1000]))
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("labels", [torch.tensor([[1, 0]]), torch.tensor([[True, False]]), torch.tensor([[1.0, 0.0]])])
@pytest.mark.parametrize("kind", [*LISTS, *POINTS])
def test_integers_and_booleans_are_labels_too(kind, labels):
    scores = torch.tensor([[0.5, -0.5]])
    torch.testing.assert_close(kind()(scores, labels), kind()(scores, torch.tensor([[1.0, 0.0]])))


@pytest.mark.parametrize("bad", [-1.0, *NOT_FINITE])
def test_weights_are_finite_and_at_least_0(bad):
    weight = torch.tensor([1.0, bad])
    words = r"weight, row 1: expected finite weights of at least 0, got"
    for kind in LISTS:
        with pytest.raises(DataError, match=words):
            kind()(torch.zeros(2, 3), torch.zeros(2, 3), weight=weight)
    for kind in POINTS:
        with pytest.raises(DataError, match=words):
            kind()(torch.zeros(2), torch.zeros(2), weight=weight)
        assert kind()(torch.zeros(2), torch.zeros(2), weight=weight, mask=torch.tensor([True, False])).isfinite()
    for loss in SAMPLED:
        with pytest.raises(DataError, match=words):
            loss(torch.zeros(2, 3), None, weight)
    with pytest.raises(DataError, match=words):
        L.softmax_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), weight)


def test_weights_that_are_all_0_make_a_loss_of_0():
    weight = torch.zeros(2)
    for kind in LISTS:
        assert kind()(torch.zeros(2, 3), torch.ones(2, 3), weight=weight) == 0
    for kind in POINTS:
        assert kind()(torch.zeros(2), torch.zeros(2), weight=weight) == 0
    for loss in SAMPLED:
        assert loss(torch.zeros(2, 3), None, weight) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, *NOT_FINITE, "1", True, None])
def test_temperatures_and_factors_are_positive_finite_numbers(bad):
    builders = [lambda kind=kind: kind(temperature=bad) for kind in LISTS if kind is not L.PairwiseMeanSquaredError]
    builders.append(lambda: L.WeightedBCELoss(bad))
    if bad is None:
        return
    for build in builders:
        with pytest.raises(ConfigError, match="expected a finite number above 0, got"):
            build()
    if bad != 0:
        for build in (lambda: L.FocalLoss(bad), lambda: L.bpr_max(torch.zeros(1, 2), l2=bad)):
            with pytest.raises(ConfigError, match="expected a finite number of at least 0, got"):
                build()


def test_every_number_is_looked_at_in_any_shape_and_dtype():
    for values in (torch.tensor(2.0), torch.zeros(2, 3, 4).index_fill_(2, torch.tensor([3]), 2.0)):
        with pytest.raises(DataError, match="expected zeros, got 2"):
            checked(values, 0, 0, expected="zeros", where="here", name="values")
    for values in (torch.zeros(0), torch.zeros(2, 0), torch.zeros(2, device="meta")):
        assert checked(values, 1, 2, expected="ones", where="here", name="values") is values
    integers = torch.tensor([0, 2**40])
    assert checked_weight(integers, "here") is integers


def test_logarithms_of_probabilities():
    for log_q in (torch.tensor([-3.0, 0.0, 5e-7]), torch.rand(1000).log_softmax(0)):
        assert checked_log_q(log_q, "here") is log_q
    for bad in (0.01, *NOT_FINITE):
        with pytest.raises(DataError, match="log_q, row 1: expected logarithms of probabilities"):
            checked_log_q(torch.tensor([-1.0, bad]), "here")


def test_where_nothing_may_wait_bad_numbers_become_nan():
    labels, weight = torch.tensor([1.0, 2.0, math.inf]), torch.tensor([-1.0, 1.0, 1.0])
    looked_at = torch.func.vmap(lambda values: checked(values, 0, 1, expected="", where="", name=""))(labels[None])
    assert looked_at.isnan().tolist() == [[False, True, True]]
    assert torch.func.vmap(lambda values: checked_weight(values, ""))(weight[None]).isnan().tolist() == [
        [True, False, False]
    ]
    assert torch.func.vmap(lambda values: checked_weight(values, ""))(labels[None]).isnan().tolist() == [
        [False, False, True]
    ]
    gradient = torch.func.grad(lambda logits: L.WeightedBCELoss()(logits, labels))(torch.zeros(3))
    assert gradient.isnan().tolist() == [False, True, True]


def test_torchs_losses_agree_with_ours_where_both_take_the_labels():
    logits, labels = torch.randn(100), torch.rand(100)
    torch.testing.assert_close(L.WeightedBCELoss()(logits, labels), nn.BCEWithLogitsLoss()(logits, labels))
