"""Each metric says which of its values are better; the better of two models has to have them."""

import pytest
import torch

import retrank as rr

LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0])
GOOD, BAD = torch.tensor([0.9, 0.2, 0.8, 0.1]), torch.tensor([0.2, 0.8, 0.1, 0.9])

POINTWISE = [
    rr.metrics.AUC(),
    rr.metrics.BinaryAccuracy(),
    rr.metrics.LogLoss(),
    rr.metrics.NormalizedEntropy(),
    rr.metrics.CalibrationError(),
    rr.metrics.MeanSquaredError(),
    rr.metrics.RootMeanSquaredError(),
    rr.metrics.MeanAbsoluteError(),
]
LISTS = [
    rr.metrics.PrecisionAtK(2),
    rr.metrics.RecallAtK(2),
    rr.metrics.HitRate(2),
    rr.metrics.MeanReciprocalRank(),
    rr.metrics.MeanAveragePrecision(),
    rr.metrics.DCG(),
    rr.metrics.NDCG(),
]
NEITHER = [
    rr.metrics.Calibration(),  # 1 is the best
    rr.metrics.PredictionMean(),
    rr.metrics.LabelMean(),
    rr.metrics.CatalogueCoverage(10),
    rr.metrics.GiniIndex(10),
    rr.metrics.IntraListDiversity(k=2),
    rr.metrics.Novelty(k=2),
    rr.metrics.PopularityBias(k=2),
]


def measured(metric, *arguments, **options):
    metric.reset()
    metric.update(*arguments, **options)
    value = metric.compute()
    return value if isinstance(value, dict) else {metric.name: value}


def require_better(metric, good, bad):
    assert tuple(good) == tuple(bad) == metric.result_names
    for name in good:
        assert metric.larger_is_better is bool(good[name] > bad[name]), name
        assert good[name] != bad[name]


@pytest.mark.parametrize("metric", POINTWISE, ids=lambda metric: metric.name)
def test_of_a_prediction_and_a_label(metric):
    require_better(metric, measured(metric, GOOD, LABELS), measured(metric, BAD, LABELS))


def test_of_groups():
    options = {"groups": torch.tensor([0, 0, 1, 1])}
    metric = rr.metrics.GroupedAUC()
    require_better(metric, measured(metric, GOOD, LABELS, **options), measured(metric, BAD, LABELS, **options))


@pytest.mark.parametrize("metric", LISTS, ids=lambda metric: metric.name)
def test_of_lists(metric):
    scores, labels = torch.arange(5.0)[None], torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]])
    require_better(metric, measured(metric, scores, labels), measured(metric, -scores, labels))


def test_of_a_corpus_and_a_batch():
    queries, candidates = torch.ones(1, 1), torch.arange(3.0)[:, None]
    corpus = rr.metrics.FullCorpusTopK(ks=(1, 2))
    good, bad = (measured(corpus, queries, candidates, torch.tensor([row])) for row in (2, 0))
    require_better(corpus, good, bad)
    batch = rr.metrics.BatchTopK(ks=(1, 2), name="train")
    scores = candidates.T
    require_better(batch, measured(batch, scores, torch.tensor([2])), measured(batch, scores, torch.tensor([0])))


def test_of_losses():
    metric = rr.metrics.LossMean()
    require_better(metric, measured(metric, torch.tensor(1.0), 2), measured(metric, torch.tensor(3.0), 2))


@pytest.mark.parametrize("metric", NEITHER, ids=lambda metric: metric.name)
def test_some_values_are_neither_better_nor_worse(metric):
    assert metric.larger_is_better is None


def test_every_metric_is_tested():
    tested = {type(metric) for metric in [*POINTWISE, *LISTS, *NEITHER]}
    tested |= {rr.metrics.GroupedAUC, rr.metrics.FullCorpusTopK, rr.metrics.BatchTopK, rr.metrics.LossMean}
    exported = (getattr(rr.metrics, name) for name in rr.metrics.__all__)
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, rr.metrics.Metric)}
    assert {kind for kind in kinds if not kind.__abstractmethods__} == tested
