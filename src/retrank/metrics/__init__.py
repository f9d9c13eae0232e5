"""Metrics: how good the predictions and the rankings are.

`Metric` sums up batches without waiting for the device; state can be merged and saved. Of predictions and labels:
`RootMeanSquaredError`, `MeanSquaredError`, `MeanAbsoluteError`; `AUC` (exact), `BinaryAccuracy`, `LogLoss`,
`PredictionMean`, `LabelMean`. Of retrieval: `FullCorpusTopK` ranks positives among all candidates, never optimistic
about ties; `hit_rate`, `recall`, `precision`, `mrr`, `ndcg` and `average_precision` judge lists of recommendations.
"""

from retrank.metrics.auc import AUC
from retrank.metrics.classification import BinaryAccuracy, LabelMean, LogLoss, PredictionMean, binary_metrics
from retrank.metrics.corpus import FullCorpusTopK, rank_of_positive
from retrank.metrics.metric import Metric, PointwiseMetric, SumMetric, WeightedMean
from retrank.metrics.ranking import average_precision, hit_rate, mrr, ndcg, precision, recall
from retrank.metrics.regression import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "FullCorpusTopK",
    "LabelMean",
    "LogLoss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "PointwiseMetric",
    "PredictionMean",
    "RootMeanSquaredError",
    "SumMetric",
    "WeightedMean",
    "average_precision",
    "binary_metrics",
    "hit_rate",
    "mrr",
    "ndcg",
    "precision",
    "rank_of_positive",
    "recall",
]
