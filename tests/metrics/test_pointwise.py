import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import (
    AUC,
    BinaryAccuracy,
    LabelMean,
    LogLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    PredictionMean,
    RootMeanSquaredError,
    binary_metrics,
)

ALL = [
    AUC,
    BinaryAccuracy,
    LabelMean,
    LogLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    PredictionMean,
    RootMeanSquaredError,
]


def slow_auc(predictions, labels, weight):
    total = pairs = 0.0
    for i in range(len(labels)):
        for j in range(len(labels)):
            if labels[i] == 1 and labels[j] == 0:
                pairs += weight[i] * weight[j]
                better = (predictions[i] > predictions[j]) + 0.5 * (predictions[i] == predictions[j])
                total += weight[i] * weight[j] * better
    return total / pairs if pairs else math.nan


def slow_log_loss(p, y):
    p = min(max(p, 2.0**-23), 1 - 2.0**-23)
    return -math.log(p) if y == 1 else -math.log(1 - p)


SLOW = {
    "accuracy": lambda p, y: float((1 if p > 0.5 else 0) == y),
    "label_mean": lambda p, y: y,
    "log_loss": slow_log_loss,
    "mae": lambda p, y: abs(p - y),
    "mse": lambda p, y: (p - y) ** 2,
    "prediction_mean": lambda p, y: p,
    "rmse": lambda p, y: (p - y) ** 2,
}


def slow(name, predictions, labels, weight):
    if name == "auc":
        return slow_auc(predictions, labels, weight)
    if sum(weight) == 0:
        return math.nan
    mean = sum(w * SLOW[name](p, y) for p, y, w in zip(predictions, labels, weight, strict=True)) / sum(weight)
    return math.sqrt(mean) if name == "rmse" else mean


ROWS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.625, 0.75, 1.0]), st.integers(0, 1), st.sampled_from([0.0, 0.5, 1, 3])
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(ROWS, st.data())
@pytest.mark.parametrize("kind", ALL)
def test_any_split_into_batches_and_merges_gives_the_definition(kind, rows, data):
    metric, other = kind(), kind()
    cut = data.draw(st.integers(0, len(rows)))
    for part in (rows[:cut], rows[cut:]):
        predictions, labels, weight = (torch.tensor([row[i] for row in part], dtype=torch.float32) for i in range(3))
        target = data.draw(st.sampled_from([metric, other]))
        target.update(predictions, labels.long(), weight)
    metric.merge(other)
    expected = slow(metric.name, *([row[i] for row in rows] for i in range(3)))
    assert metric.num_rows == len(rows)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6, abs=1e-7, nan_ok=True)
    restored = kind()
    restored.load_state_dict(metric.state_dict())
    assert restored.num_rows == len(rows)
    assert restored.compute().item() == pytest.approx(expected, rel=1e-6, abs=1e-7, nan_ok=True)
    metric.reset()
    assert metric.num_rows == 0
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=500).round(1)  # many ties
    predictions = (1 / (1 + np.exp(-logits))).astype(np.float32)
    labels, weight = rng.integers(0, 2, 500), rng.random(500).astype(np.float32)
    found = {}
    for metric in (AUC(), LogLoss(), BinaryAccuracy(), MeanAbsoluteError(), RootMeanSquaredError()):
        metric.update(torch.from_numpy(predictions), torch.from_numpy(labels), torch.from_numpy(weight))
        found[metric.name] = metric.compute().item()
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, predictions, sample_weight=weight))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, predictions, sample_weight=weight))
    assert found["accuracy"] == pytest.approx(
        sklearn_metrics.accuracy_score(labels, predictions > 0.5, sample_weight=weight)
    )
    assert found["mae"] == pytest.approx(
        sklearn_metrics.mean_absolute_error(labels, predictions, sample_weight=weight), rel=1e-6
    )
    assert found["rmse"] == pytest.approx(
        sklearn_metrics.root_mean_squared_error(labels, predictions, sample_weight=weight), rel=1e-6
    )


def test_sums_do_not_lose_small_terms_as_float32_would():
    metric = MeanSquaredError()
    metric.update(torch.tensor([2.0**14]), torch.tensor([0.0]))
    for _ in range(100):
        metric.update(torch.full((10,), 1.0), torch.zeros(10))
    assert metric.compute().item() == pytest.approx((2.0**28 + 1000) / 1001, rel=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_broadcasting_shapes_are_refused(kind):
    for labels, weight in [(torch.zeros(4, 1), None), (torch.zeros(4), torch.ones(4, 1)), (torch.zeros(3), None)]:
        with pytest.raises(ShapeError, match=r"shape \(4,\)"):
            kind().update(torch.zeros(4), labels, weight)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("predictions", "labels", "weight"),
    [([0.5, math.nan], [0, 1], [1, 1]), ([0.5, 0.5], [0, 1], [1, -1]), ([0.5, 0.5], [0, 1], [1, math.nan])],
    ids=["prediction", "negative weight", "weight"],
)
def test_what_has_no_meaning_is_said_at_compute(kind, predictions, labels, weight):
    metric = kind()
    metric.update(torch.tensor(predictions), torch.tensor(labels), torch.tensor(weight))
    if kind is LabelMean and math.isnan(predictions[1]):
        assert metric.compute() == 0.5  # it looks at labels alone
        return
    with pytest.raises(DataError, match=f"metric '{metric.name}'"):
        metric.compute()


@pytest.mark.parametrize("kind", [AUC, BinaryAccuracy, LogLoss])
def test_labels_other_than_0_and_1_are_refused(kind):
    metric = kind()
    metric.update(torch.tensor([0.5, 0.5]), torch.tensor([1, 4]))
    with pytest.raises(DataError, match=metric.name):
        metric.compute()


def test_auc_of_one_class_is_nan():
    metric = AUC()
    metric.update(torch.tensor([0.3, 0.7]), torch.tensor([1, 1]))
    assert math.isnan(metric.compute())
    metric.update(torch.tensor([0.5]), torch.tensor([0]))
    assert metric.compute() == 0.5


def test_saturated_probabilities_have_a_finite_log_loss():
    metric = LogLoss()
    metric.update(torch.tensor([0.0, 1.0]), torch.tensor([1, 0]))
    assert 15 < metric.compute() < 17


def test_merging_what_was_built_otherwise_is_refused():
    with pytest.raises(ConfigError, match="merge"):
        BinaryAccuracy(threshold=0.3).merge(BinaryAccuracy())
    with pytest.raises(ConfigError, match="merge"):
        MeanSquaredError().merge(RootMeanSquaredError())
    with pytest.raises(ConfigError, match="threshold"):
        BinaryAccuracy(threshold=1.5)
    with pytest.raises(ConfigError, match="sums"):
        MeanSquaredError().load_state_dict(rr.metrics.FullCorpusTopK().state_dict())


def test_metrics_are_rebuilt_from_json():
    for metric in [*binary_metrics(), BinaryAccuracy(threshold=0.2, name="accuracy@0.2"), MeanSquaredError(name="m")]:
        again = rr.core.from_config(rr.core.to_config(metric))
        assert type(again) is type(metric)
        assert (again.name, again.config) == (metric.name, metric.config)


def test_updating_keeps_no_graph():
    predictions = torch.tensor([0.5], requires_grad=True)
    for kind in ALL:
        metric = kind()
        metric.update(predictions, torch.tensor([1]))
        assert not any(value.requires_grad for value in metric.state_dict().values())
