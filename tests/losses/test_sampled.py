import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.golden import cases

from retrank import losses
from retrank.core.errors import ConfigError, ShapeError

GOLDEN = cases("merlin_losses")
PAIRWISE = [losses.bpr, losses.bpr_max, losses.top1, losses.top1_v2, losses.top1_max, losses.logistic, losses.hinge]
ALL = [losses.cross_entropy, *PAIRWISE]
BY_NAME = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_values_agree_with_merlin(case, dtype):
    inputs, constructor = case["inputs"], dict(case["arguments"]["constructor"])
    loss = getattr(losses, constructor.pop("alias").replace("-", "_"))
    options = {"l2": constructor["reg_lambda"]} if "reg_lambda" in constructor else {}
    scores = torch.tensor(inputs["y_pred"], dtype=dtype)
    valid = torch.tensor(inputs["valid_negatives_mask"]) if "valid_negatives_mask" in inputs else None
    has_positive = torch.tensor(inputs["y_true"], dtype=dtype)[:, 0]  # a row without one has weight 0 here
    weight = has_positive * torch.tensor(inputs.get("sample_weight", [1.0] * len(scores)), dtype=dtype)
    entries = loss(scores, valid, has_positive, reduction="none", **options)
    expected = np.array(case["expected"]["unreduced_unweighted"])
    np.testing.assert_allclose(entries, np.broadcast_to(expected, entries.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss(scores, valid, weight, **options), case["expected"]["loss"], rtol=1e-5)


def test_every_golden_loss_is_here():
    assert {case["arguments"]["constructor"]["alias"].replace("-", "_") for case in GOLDEN} == {
        loss.__name__ for loss in PAIRWISE
    }


@BY_NAME
@settings(max_examples=15)
@given(hnp.arrays(np.float64, (3, 5), elements=st.floats(-5, 5)), hnp.arrays(np.bool_, (3, 4)))
def test_downscored_negatives_take_no_part(loss, values, valid):
    # Removing columns from each row alone is the oracle; what depends on the number of columns is scaled back.
    scores = torch.tensor(values).masked_fill(
        torch.cat([torch.zeros(3, 1).bool(), torch.tensor(~valid)], 1), -torch.inf
    )
    scores.requires_grad_()
    got = loss(scores, torch.tensor(valid), reduction="none")
    got.sum().backward()
    gradient = scores.grad
    assert gradient.isfinite().all()
    assert (gradient[:, 1:][torch.tensor(~valid)] == 0).all()
    for row in range(3):
        alone = torch.tensor(values[row : row + 1][:, np.r_[True, valid[row]]], requires_grad=True)
        expected = loss(alone, reduction="none")
        if loss is losses.top1_v2:
            expected = expected * valid[row].sum() / 4
        expected.sum().backward()
        own = got[row] if loss is losses.cross_entropy else got[row][torch.tensor(valid[row])]
        np.testing.assert_allclose(own.detach(), expected.detach().reshape(own.shape), rtol=1e-9, atol=1e-12)
        if loss is not losses.top1_v2:
            np.testing.assert_allclose(
                gradient[row][torch.tensor(np.r_[True, valid[row]])], alone.grad[0], rtol=1e-9, atol=1e-12
            )


@BY_NAME
def test_invalid_entries_have_no_loss_and_the_mask_may_replace_infinities(loss):
    torch.manual_seed(0)
    scores, valid = torch.randn(4, 6), torch.rand(4, 5) < 0.5
    removed = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(~valid, -torch.inf)], dim=1)
    assert torch.equal(loss(removed, valid), loss(removed))
    if loss is not losses.cross_entropy:
        assert (loss(scores, valid, reduction="none")[~valid] == 0).all()


@BY_NAME
def test_reductions_and_weights(loss):
    torch.manual_seed(0)
    scores, weight = torch.randn(4, 6), torch.tensor([0.0, 1.0, 2.0, 0.5])
    entries = loss(scores, reduction="none")
    weighted = entries * weight.reshape(-1, *[1] * (entries.dim() - 1))
    assert torch.allclose(loss(scores, None, weight, reduction="none"), weighted)
    assert torch.allclose(loss(scores, None, weight, reduction="sum"), weighted.sum())
    assert torch.allclose(loss(scores, None, weight), weighted.mean())
    assert torch.allclose(loss(scores), torch.stack([loss(row[None]) for row in scores]).mean())
    scores[0] = torch.nan
    assert loss(scores).isnan()
    assert torch.allclose(loss(scores, None, weight), weighted.mean())


@BY_NAME
def test_rows_without_negatives_and_empty_batches(loss):
    for shape in ((0, 3), (2, 1), (0, 1)):
        scores = torch.zeros(shape, requires_grad=True)
        total = loss(scores)
        total.backward()
        assert total == 0
        assert (scores.grad == 0).all()
    scores = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    total = loss(scores, torch.zeros(1, 2, dtype=torch.bool))
    total.backward()
    assert total == 0
    assert (scores.grad == 0).all()


@BY_NAME
def test_large_scores_stay_finite(loss):
    scores = torch.tensor([[-300.0, 500.0, 400.0], [500.0, -655.04, 3.0]], requires_grad=True)
    total = loss(scores)
    total.backward()
    assert total.isfinite()
    assert scores.grad.isfinite().all()


@BY_NAME
def test_a_better_positive_is_a_smaller_loss(loss):
    scores = torch.tensor([[0.5, 0.2, 0.9]], requires_grad=True)
    loss(scores).backward()
    assert scores.grad[0, 0] < 0


@BY_NAME
def test_wrong_inputs_are_refused(loss):
    scores = torch.zeros(2, 3)
    for arguments, message in [
        ((torch.zeros(3),), r"\(batch, 1 \+ negatives\)"),
        ((torch.zeros(2, 0),), r"\(batch, 1 \+ negatives\)"),
        ((torch.zeros(2, 3, dtype=torch.int64),), "float scores"),
        ((scores, torch.ones(2, 3, dtype=torch.bool)), r"valid_negatives of shape \(2, 2\)"),
        ((scores, torch.ones(2, 2)), "bool valid_negatives"),
        ((scores, None, torch.ones(2, 1)), r"weight of shape \(2,\)"),
    ]:
        with pytest.raises(ShapeError, match=f"{loss.__name__}: .*{message}"):
            loss(*arguments)
    with pytest.raises(ConfigError, match="'average'"):
        loss(scores, reduction="average")


def test_a_negative_penalty_is_refused():
    with pytest.raises(ConfigError, match="of at least 0, got l2=-1.0"):
        losses.bpr_max(torch.zeros(1, 2), l2=-1.0)
