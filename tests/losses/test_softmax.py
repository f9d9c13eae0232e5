import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.losses.softmax import softmax_cross_entropy


def by_hand(scores, positives):
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(scores)), positives]


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-80, 80, width=32)),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_against_numpy(scores, random, masked):
    positives = np.array([random.randrange(scores.shape[1]) for _ in scores])
    weight = np.array([random.choice([0.0, 0.5, 3.0]) for _ in scores], dtype=np.float32)
    if masked:
        mask = np.array([[random.random() < 0.5 for _ in row] for row in scores])
        mask[np.arange(len(scores)), positives] = False
        scores = np.where(mask, np.float32(-np.inf), scores)
    losses = by_hand(scores, positives)
    tensors = torch.from_numpy(scores), torch.from_numpy(positives)
    for reduction, divisor in (("mean", len(scores)), ("sum", 1)):
        got = softmax_cross_entropy(*tensors, reduction=reduction).item()
        assert got == pytest.approx(losses.sum() / divisor, rel=1e-4, abs=1e-5)
        got = softmax_cross_entropy(*tensors, torch.from_numpy(weight), reduction=reduction).item()
        assert got == pytest.approx((losses * weight).sum() / divisor, rel=1e-4, abs=1e-5)


def test_masked_columns_have_no_influence_and_no_gradient():
    scores = torch.tensor([[1.0, -torch.inf, 3.0], [2.0, 2.0, -torch.inf]], requires_grad=True)
    softmax_cross_entropy(scores, torch.tensor([2, 0])).backward()
    assert scores.grad[0, 1] == 0
    assert scores.grad[1, 2] == 0
    small = torch.tensor([[1.0, 3.0], [2.0, 2.0]], requires_grad=True)
    softmax_cross_entropy(small, torch.tensor([1, 0])).backward()
    np.testing.assert_allclose(scores.grad[0, [0, 2]], small.grad[0], rtol=1e-6)
    np.testing.assert_allclose(scores.grad[1, :2], small.grad[1], rtol=1e-6)


def test_gradient_is_softmax_minus_one_hot():
    scores = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    softmax_cross_entropy(scores, torch.tensor([1])).backward()
    exponentials = np.exp([0.5, -1.0, 2.0])
    np.testing.assert_allclose(scores.grad[0], exponentials / exponentials.sum() - [0, 1, 0], rtol=1e-5)


def test_huge_scores_stay_finite():
    scores = torch.tensor([[3e38, -3e38]])
    assert softmax_cross_entropy(scores, torch.tensor([0])).item() == 0
    assert softmax_cross_entropy(torch.full((2, 3), 1e30), torch.tensor([0, 1])).item() == pytest.approx(np.log(3))


def test_edges():
    empty = torch.empty(0, 4, requires_grad=True)
    loss = softmax_cross_entropy(empty, torch.empty(0, dtype=torch.int64))
    assert loss.item() == 0
    loss.backward()
    assert softmax_cross_entropy(torch.tensor([[7.0]]), torch.tensor([0])).item() == 0
    removed = torch.tensor([[-torch.inf, 0.0], [0.0, 0.0]])
    assert softmax_cross_entropy(removed, torch.tensor([0, 0])).isinf()
    weighted = softmax_cross_entropy(removed, torch.tensor([0, 0]), torch.tensor([0.0, 1.0]))
    assert weighted.item() == pytest.approx(np.log(2) / 2)


@pytest.mark.parametrize("bad", [-100, -1, 3])
def test_a_positive_outside_is_named(bad):
    with pytest.raises(DataError, match=rf"positives, row 1: expected a column in \[0, 3\), got {bad}$"):
        softmax_cross_entropy(torch.rand(2, 3), torch.tensor([0, bad]))


def test_wrong_inputs_are_refused():
    scores, positives = torch.rand(2, 3), torch.tensor([0, 1])
    for arguments, message in [
        ((torch.rand(3), positives), r"scores of shape \(batch, columns\)"),
        ((torch.ones(2, 3, dtype=torch.int64), positives), "float scores"),
        ((scores, torch.tensor([0])), r"positives of shape \(2,\)"),
        ((scores, torch.tensor([0.0, 1.0])), "int64 positives"),
        ((scores, positives, torch.ones(2, 1)), r"weight of shape \(2,\)"),
    ]:
        with pytest.raises(ShapeError, match=message):
            softmax_cross_entropy(*arguments)
    with pytest.raises(ConfigError, match="'total'"):
        softmax_cross_entropy(scores, positives, reduction="total")


def test_without_reduction_there_is_one_loss_a_row():
    torch.manual_seed(0)
    scores, positives, weight = torch.randn(4, 3), torch.tensor([0, 2, 1, 1]), torch.tensor([1.0, 0.0, 2.0, 0.5])
    losses = softmax_cross_entropy(scores, positives, weight, reduction="none")
    expected = -scores.log_softmax(1)[torch.arange(4), positives] * weight
    assert torch.allclose(losses, expected)
    assert torch.allclose(losses.sum(), softmax_cross_entropy(scores, positives, weight, reduction="sum"))
