"""Weights in the forms in which they come, and the sum in place of the mean."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.tasks import Ranking, Retrieval

torch.manual_seed(0)
LABELS, PREDICTIONS = torch.tensor([1.0, 0.0, 1.0]), torch.randn(3)
LISTS, SCORES = (torch.rand(3, 4) > 0.5).float(), torch.randn(3, 4)
QUERIES, CANDIDATES = torch.randn(3, 5), torch.randn(3, 5)


def calls(**options):
    """Each task as a function of the weight."""
    metrics = {"loss_metrics": [rr.metrics.LossMean()]}
    rows, lists = Ranking(**options, **metrics), Ranking(rr.losses.ListMLELoss(), **options)
    pairs, retrieval = Ranking(nn.MSELoss(), **options), Retrieval(**options)
    return [
        lambda weight: rows(LABELS, PREDICTIONS, weight=weight),
        lambda weight: lists(LISTS, SCORES, weight=weight),
        lambda weight: pairs(LISTS, SCORES, weight=weight),
        lambda weight: retrieval(QUERIES, CANDIDATES, weight=weight),
    ]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@given(values=st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3))
def test_a_column_of_weights_is_weights_of_rows(reduction, values):
    weight = torch.tensor(values)
    for call in calls(reduction=reduction):
        assert torch.equal(call(weight[:, None]), call(weight))


@pytest.mark.parametrize("one", [2, 2.0, torch.tensor(2.0)])
def test_a_number_weighs_all_rows(one):
    for call in calls():
        assert torch.equal(call(one), call(torch.full((3,), 2.0)))
        torch.testing.assert_close(call(one), 2 * call(None))


def test_bad_weights_are_still_refused():
    for call in calls():
        for bad in (-1.0, math.nan, torch.tensor([[1.0], [-1.0], [1.0]])):
            with pytest.raises(DataError, match="weight"):
                call(bad)
        for shape in ((2,), (3, 2), (1, 3)):
            with pytest.raises(ShapeError, match="weight"):
                call(torch.ones(shape))


def test_metrics_see_the_same_weights():
    values = []
    for weight in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0], [2.0], [3.0]])):
        task = Ranking(metrics=[rr.metrics.LabelMean()])
        task(LABELS, PREDICTIONS, weight=weight)
        values.append(task.results()["label_mean"].item())
    assert values[0] == values[1] == pytest.approx(4 / 6)


def test_the_sum_is_the_mean_times_the_entries():
    for summed, averaged, entries in zip(calls(reduction="sum"), calls(), (3, 3, 12, 3), strict=True):
        for weight in (None, torch.tensor([1.0, 0.0, 3.0])):
            torch.testing.assert_close(summed(weight), averaged(weight) * entries)
    with pytest.raises(ConfigError, match="'mean' or 'sum'"):
        Ranking(reduction="none")
    with pytest.raises(ConfigError, match=r"Ranking\(reduction='sum'\)"):
        Ranking(nn.MSELoss(reduction="sum"))


def test_the_sum_of_a_task_of_several_is_that_of_the_rows_with_its_label():
    batch = rr.Batch(
        {
            "id": torch.tensor([2, 3, 4]),
            "a": torch.tensor([1.0, math.nan, 0.0]),
            "weight": torch.tensor([[1.0], [5.0], [2.0]]),
        }
    )
    losses = {}
    for reduction in ("mean", "sum"):
        torch.manual_seed(0)
        tables = rr.EmbeddingCollection({"id": rr.EmbeddingTable(6, 4)})
        model = rr.models.MultiTaskRanking(tables, {"a": Ranking(reduction=reduction)}, weight="weight")
        losses[reduction] = model.compute_loss(batch)
    torch.testing.assert_close(losses["sum"], 2 * losses["mean"])


def test_a_column_of_weights_in_a_retrieval_model():
    ids = rr.core.ColumnSchema("user", "ids", num_ids=9), rr.core.ColumnSchema("song", "ids", num_ids=9)
    model = rr.models.MatrixFactorization(*ids, rr.tasks.Retrieval(), dim=4, weight="weight")
    columns = {"user": torch.tensor([2, 3, 4]), "song": torch.tensor([5, 6, 7])}
    weight = torch.tensor([1.0, 0.0, 3.0])
    one, other = (model.compute_loss(rr.Batch({**columns, "weight": form})) for form in (weight, weight[:, None]))
    assert torch.equal(one, other)
