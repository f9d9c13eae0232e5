import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import Calibration, CalibrationError, GroupedAUC, NormalizedEntropy

POINTWISE = [Calibration, CalibrationError, NormalizedEntropy]


def slow_entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p) if 0 < p < 1 else 0.0


def slow(kind, rows):
    total = sum(w for *_, w in rows)
    positive = sum(w * y for _, y, w in rows)
    if total == 0:
        return math.nan
    if kind is Calibration:
        predicted = sum(w * p for p, _, w in rows)
        return predicted / positive if positive else (math.inf if predicted else math.nan)
    if kind is CalibrationError:
        bins = [[row for row in rows if min(int(row[0] * 15), 14) == b] for b in range(15)]
        return sum(abs(sum(w * (p - y) for p, y, w in rows_)) for rows_ in bins) / total
    entropy = slow_entropy(positive / total)
    clipped = [(min(max(p, 2.0**-23), 1 - 2.0**-23), y, w) for p, y, w in rows]
    loss = sum(w * -(math.log(p) if y else math.log(1 - p)) for p, y, w in clipped) / total
    return loss / entropy if entropy else math.nan


ROWS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.625, 1.0]), st.integers(0, 1), st.sampled_from([0.0, 0.5, 1.0, 3.0])
    ),
    max_size=20,
)


@settings(max_examples=50)
@given(ROWS, st.data())
@pytest.mark.parametrize("kind", POINTWISE)
def test_any_split_into_batches_and_merges_gives_the_definition(kind, rows, data):
    metric, other = kind(), kind()
    cut = data.draw(st.integers(0, len(rows)))
    for part in (rows[:cut], rows[cut:]):
        predictions, labels, weight = (torch.tensor([row[i] for row in part], dtype=torch.float32) for i in range(3))
        data.draw(st.sampled_from([metric, other])).update(predictions, labels.long(), weight)
    metric.merge(other)
    assert metric.num_rows == len(rows)
    assert metric.compute().item() == pytest.approx(slow(kind, rows), rel=1e-9, abs=1e-12, nan_ok=True)
    restored = kind()
    restored.load_state_dict(metric.state_dict())
    assert restored.compute().item() == pytest.approx(slow(kind, rows), rel=1e-9, abs=1e-12, nan_ok=True)
    metric.reset()
    assert math.isnan(metric.compute())


def test_agrees_with_torchmetrics_and_scikit_learn():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    predictions, labels = rng.random(400).astype(np.float32), rng.integers(0, 2, 400)
    weight = rng.random(400)
    error = CalibrationError(10)
    error.update(torch.from_numpy(predictions), torch.from_numpy(labels))
    theirs = torchmetrics.binary_calibration_error(torch.from_numpy(predictions), torch.from_numpy(labels), n_bins=10)
    assert error.compute().item() == pytest.approx(theirs.item(), rel=1e-5)
    entropy = NormalizedEntropy()
    entropy.update(torch.from_numpy(predictions), torch.from_numpy(labels), torch.from_numpy(weight))
    rate = np.full(400, np.average(labels, weights=weight))
    expected = log_loss(labels, predictions, sample_weight=weight) / log_loss(labels, rate, sample_weight=weight)
    assert entropy.compute().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", POINTWISE)
def test_bad_input(kind):
    with pytest.raises(ShapeError, match=r"shape \(4,\)"):
        kind().update(torch.zeros(4), torch.zeros(4, 1))
    for prediction, label, weight in [(1.5, 1, 1), (math.nan, 1, 1), (0.5, 2, 1), (0.5, 1, -1), (0.5, 1, math.inf)]:
        metric = kind()
        metric.update(torch.tensor([prediction]), torch.tensor([label]), torch.tensor([weight]))
        with pytest.raises(DataError, match=metric.name):
            metric.compute()
    with pytest.raises(ConfigError, match="bin"):
        CalibrationError(0)


def slow_grouped_auc(predictions, labels, weight, groups, average):
    values = []
    for group in np.unique(groups):
        p, y, w = (part[groups == group] for part in (predictions, labels, weight))
        if w[y == 1].sum() > 0 and w[y == 0].sum() > 0:
            values.append((roc_auc_score(y[w > 0], p[w > 0], sample_weight=w[w > 0]), w.sum() if average else 1.0))
    return sum(v * w for v, w in values) / sum(w for _, w in values) if values else math.nan


@settings(max_examples=40)
@given(st.integers(0, 40), st.sampled_from(["rows", "groups"]), st.integers(0, 10**6))
def test_grouped_auc(num_rows, average, seed):
    rng = np.random.default_rng(seed)
    predictions, labels = rng.integers(0, 6, num_rows) / 5, rng.integers(0, 2, num_rows)
    weight, groups = rng.choice([0.0, 0.5, 2.0], num_rows), rng.choice([-4, 3, 2**60], num_rows)
    metric, other = GroupedAUC(average=average), GroupedAUC(average=average)
    cut = int(rng.integers(0, num_rows + 1))
    for target, part in ((metric, slice(None, cut)), (other, slice(cut, None))):
        p, y, w, g = (torch.from_numpy(values[part]) for values in (predictions, labels, weight, groups))
        target.update(p, y, w, groups=g)
    metric.merge(other)
    expected = slow_grouped_auc(predictions, labels, weight, groups, average == "rows")
    assert metric.num_rows == num_rows
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9, nan_ok=True)
    restored = GroupedAUC(average=average)
    restored.load_state_dict(metric.state_dict())
    assert restored.compute().item() == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_grouped_auc_of_one_group_is_the_auc():
    predictions, labels = torch.rand(50), torch.randint(0, 2, (50,))
    whole, grouped = rr.metrics.AUC(), GroupedAUC()
    whole.update(predictions, labels)
    grouped.update(predictions, labels, groups=torch.full((50,), 5))
    assert grouped.compute().item() == pytest.approx(whole.compute().item())
    grouped.reset()
    assert math.isnan(grouped.compute())


def test_grouped_auc_refuses_bad_input():
    with pytest.raises(ShapeError, match="int64 groups"):
        GroupedAUC().update(torch.zeros(2), torch.zeros(2), groups=torch.zeros(2))
    with pytest.raises(ShapeError, match="labels"):
        GroupedAUC().update(torch.zeros(2), torch.zeros(2, 1), groups=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigError, match="average"):
        GroupedAUC(average="users")
    metric = GroupedAUC()
    metric.update(torch.tensor([0.1, 0.2]), torch.tensor([0, 3]), groups=torch.tensor([1, 1]))
    with pytest.raises(DataError, match="row 1"):
        metric.compute()


def test_metrics_are_rebuilt_from_json():
    for metric in [Calibration(), CalibrationError(20, name="ece"), NormalizedEntropy(), GroupedAUC(average="groups")]:
        again = rr.core.from_config(rr.core.to_config(metric))
        assert (type(again), again.name, again.config) == (type(metric), metric.name, metric.config)
