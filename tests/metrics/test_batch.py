import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import BatchTopK, LossMean


def chance_of_being_among(row, own, k):
    """Count the orders of the ties that bring the positive among the k best, one by one."""
    better, alike = sum(s > row[own] for s in row), sum(s == row[own] for s in row)
    return sum(better + place < k for place in range(alike)) / alike


@settings(max_examples=80)
@given(st.integers(0, 7), st.integers(1, 9), st.integers(0, 10**6))
def test_is_the_definition(num_rows, num_columns, seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([-np.inf, -1.0, 0.0, 1.0, 2.0], size=(num_rows, num_columns)).astype(np.float32)
    positives, weight = rng.integers(0, num_columns, num_rows), rng.random(num_rows)
    metric, parts = BatchTopK(ks=(1, 3)), [BatchTopK(ks=(1, 3)) for _ in range(2)]
    metric.update(*map(torch.from_numpy, (scores, positives, weight)))
    for part, rows in zip(parts, (slice(0, 2), slice(2, None)), strict=True):
        part.update(*map(torch.from_numpy, (scores[rows], positives[rows], weight[rows])))
    parts[0].merge(parts[1])
    for result in (metric.compute(), parts[0].compute()):
        for k in (1, 3):
            chances = [chance_of_being_among(row, own, k) for row, own in zip(scores, positives, strict=True)]
            expected = np.average(chances, weights=weight) if num_rows else math.nan
            assert result[f"batch_hit_rate@{k}"].item() == pytest.approx(expected, nan_ok=True)


def test_a_collapsed_model_scores_like_chance():
    metric = BatchTopK(ks=(1, 5))
    metric.update(torch.ones(20, 20), torch.arange(20))
    assert [value.item() for value in metric.compute().values()] == pytest.approx([1 / 20, 5 / 20])


def test_bad_input():
    for ks in ((), (0, 1)):
        with pytest.raises(ConfigError, match="at least"):
            BatchTopK(ks=ks)
    with pytest.raises(ShapeError, match="'batch'"):
        BatchTopK().update(torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ShapeError, match="'batch'"):
        BatchTopK().update(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(3))
    for scores, weight in ((torch.tensor([[math.nan, 1.0]]), None), (torch.ones(1, 2), torch.tensor([-1.0]))):
        metric = BatchTopK()
        metric.update(scores, torch.tensor([1]), weight)
        with pytest.raises(DataError, match="'batch'"):
            metric.compute()
    with pytest.raises(ShapeError, match="'task_loss'"):
        LossMean().update(torch.ones(1), 1)


def test_mean_of_losses_is_weighted_by_rows_merged_and_saved():
    first, second = LossMean("x"), LossMean("x")
    assert first.compute().isnan()
    first.update(torch.tensor(2.0, requires_grad=True), 30)
    second.update(torch.tensor(4.0), 10)
    first.merge(second)
    assert first.compute().item() == 2.5
    again = LossMean("x")
    again.load_state_dict(first.state_dict())
    assert (again.compute().item(), again.num_rows) == (2.5, 40)


def test_are_rebuilt_from_json():
    for metric in (BatchTopK(ks=(2, 4), name="train"), LossMean("x")):
        again = rr.core.from_config(rr.core.to_config(metric))
        assert again.config == metric.config
        assert again.name == metric.name
