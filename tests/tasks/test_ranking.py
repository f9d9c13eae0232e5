import math

import numpy as np
import pytest
import torch
from tests.golden import golden
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import LabelMean, LossMean, PredictionMean, RootMeanSquaredError, binary_metrics
from retrank.tasks import Ranking


def loss_of(case):
    given = case["arguments"]["constructor"]["loss"]
    if given is None:
        return nn.BCELoss()  # the default of TFRS takes probabilities
    return nn.MSELoss() if given["class_name"] == "MeanSquaredError" else None


@golden("tfrs_ranking_task")
def test_loss_and_gradient_agree_with_tfrs(case):
    labels = torch.tensor(case["inputs"]["labels"])
    predictions = torch.tensor(case["inputs"]["predictions"], requires_grad=True)
    weight = case["inputs"].get("sample_weight")
    weight = None if weight is None else torch.tensor(weight).reshape(labels.shape)
    loss = Ranking(loss_of(case))(labels, predictions, weight=weight)
    loss.backward()
    np.testing.assert_allclose(loss.detach(), case["expected"]["loss"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictions.grad, case["expected"]["grad_predictions"], rtol=1e-4, atol=1e-5)


@golden("tfrs_ranking_task", "mse_metrics")
def test_metrics_agree_with_tfrs(case):
    labels, predictions = torch.tensor(case["inputs"]["labels"]), torch.tensor(case["inputs"]["predictions"])
    task = Ranking(
        nn.MSELoss(), metrics=[RootMeanSquaredError(), PredictionMean(), LabelMean()], loss_metrics=[LossMean("mse")]
    )
    task(labels, predictions)
    task(torch.ones_like(labels), predictions / 2)
    expected = case["expected"]["metrics_after_second_call"]
    found = task.results()
    assert found["rmse"].item() == pytest.approx(expected["metrics"][0], rel=1e-5)
    assert found["prediction_mean"].item() == pytest.approx(expected["prediction_metrics"][0], rel=1e-5)
    assert found["label_mean"].item() == pytest.approx(expected["label_metrics"][0], rel=1e-5)
    assert found["mse"].item() == pytest.approx(expected["loss_metrics"][0], rel=1e-5)


def test_default_loss_takes_logits_and_its_metrics_see_probabilities():
    labels, logits = torch.tensor([1, 0, 1, 0]), torch.tensor([2.0, -1.0, -0.5, 3.0])
    task = Ranking(metrics=binary_metrics())
    loss = task(labels, logits)
    probabilities = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = -np.mean(np.where(labels.numpy() == 1, np.log(probabilities), np.log(1 - probabilities)))
    error = np.abs(probabilities - labels.numpy()).mean()  # each is alone in its bin
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert {name: value.item() for name, value in task.results().items()} == pytest.approx(
        {
            "auc": 0.5,
            "accuracy": 0.5,
            "calibration_error": error,
            "prediction_mean": probabilities.mean(),
            "label_mean": 0.5,
        }
    )


def test_prediction_transform_follows_the_loss_unless_given():
    assert isinstance(Ranking(nn.BCEWithLogitsLoss()).prediction_transform, nn.Sigmoid)
    assert isinstance(Ranking(nn.BCELoss()).prediction_transform, nn.Identity)
    assert isinstance(Ranking(prediction_transform=nn.Identity()).prediction_transform, nn.Identity)


def test_update_metrics_can_be_left_out():
    task = Ranking(metrics=binary_metrics())
    task(torch.ones(2), torch.zeros(2), update_metrics=False)
    assert task.results() == {}
    task(torch.ones(2), torch.zeros(2, requires_grad=True))
    assert set(task.results()) == {"auc", "accuracy", "calibration_error", "prediction_mean", "label_mean"}
    again = Ranking(metrics=binary_metrics())
    again.load_metrics_state_dict(task.metrics_state_dict())
    again(torch.zeros(2), torch.ones(2))
    assert again.results()["auc"] == 0
    assert math.isnan(task.results()["auc"])
    task.reset()
    assert task.results() == {}


@pytest.mark.parametrize(("labels", "predictions"), [((4,), (4, 1)), ((4, 1), (4,)), ((1,), (4,)), ((4,), ())])
def test_shapes_that_would_broadcast_are_refused(labels, predictions):
    with pytest.raises(ShapeError, match=r"labels of the predictions' shape"):
        Ranking(nn.MSELoss())(torch.zeros(labels), torch.zeros(predictions))


def test_other_bad_input():
    for shape in ((1,), (1, 4), (4, 4)):
        with pytest.raises(ShapeError, match=r"weight of the predictions' shape \(4, 1\), got"):
            Ranking()(torch.zeros(4, 1), torch.zeros(4, 1), weight=torch.ones(shape))
    with pytest.raises(ShapeError, match="swapped"):
        Ranking()(torch.zeros(4), torch.zeros(4, dtype=torch.int64))
    for reduction in ("sum", "none"):
        with pytest.raises(ConfigError, match="reduction 'mean'"):
            Ranking(nn.MSELoss(reduction=reduction))
    with pytest.raises(ConfigError, match="distinct names"):
        Ranking(metrics=[LabelMean(), LabelMean()])


class Pinball(nn.Module):
    def forward(self, predictions, labels):
        error = labels - predictions
        return torch.maximum(0.9 * error, -0.1 * error)


class AlreadyReduced(nn.Module):
    def forward(self, predictions, labels):
        return (predictions - labels).sum()


def test_a_custom_loss_returns_one_value_per_row():
    labels, predictions, weight = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 5.0])
    assert Ranking(Pinball())(labels, predictions, weight=weight).item() == pytest.approx((1.8 + 1.0) / 2)
    with pytest.raises(ShapeError, match="one loss per row"):
        Ranking(AlreadyReduced())(labels, predictions)


def test_the_loss_that_was_given_is_not_changed():
    loss = nn.MSELoss()
    Ranking(loss)
    assert loss.reduction == "mean"


def test_small_batches_and_nan():
    assert Ranking(nn.MSELoss())(torch.tensor([1.0]), torch.tensor([3.0])) == 4
    task = Ranking(metrics=binary_metrics())
    assert task(torch.ones(0), torch.ones(0)) == 0
    assert task.results() == {}
    assert task(torch.ones(2), torch.tensor([0.0, torch.nan])).isnan()
    with pytest.raises(DataError, match="auc"):
        task.results()


def test_a_row_without_weight_takes_no_part():
    predictions = torch.tensor([1.0, torch.inf], requires_grad=True)
    loss = Ranking(nn.MSELoss())(torch.zeros(2), predictions, weight=torch.tensor([1.0, 0.0]))
    assert loss == 0.5


def test_half_precision_predictions_meet_labels_in_float32():
    loss = Ranking(nn.MSELoss())(torch.tensor([3.3]), torch.tensor([3.0], dtype=torch.bfloat16))
    assert loss.item() == pytest.approx(0.09, rel=1e-5)


def test_is_rebuilt_from_json():
    task = Ranking(nn.HuberLoss(delta=2.0), metrics=[RootMeanSquaredError(name="error")])
    again = rr.core.from_config(rr.core.to_config(task))
    assert again.loss.delta == 2.0
    assert again.loss.reduction == "none"
    assert [metric.name for metric in again.metrics] == ["error"]
