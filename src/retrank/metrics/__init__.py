"""Metrics: how good the predictions and the rankings are.

`Metric` sums up batches without waiting for the device; state can be merged and saved, and `merged_across_processes`
counts what all processes have seen.

- Predictions and labels, row by row: `RootMeanSquaredError`, `MeanSquaredError`, `MeanAbsoluteError`; `AUC` (exact),
  `GroupedAUC`, `BinaryAccuracy`, `LogLoss`, `NormalizedEntropy`, `Calibration`, `CalibrationError`, `PredictionMean`,
  `LabelMean`.
- Lists with scores, labels, masks and weights, ranked by score: `PrecisionAtK`, `RecallAtK`, `HitRate`,
  `MeanReciprocalRank`, `MeanAveragePrecision`, `DCG`, `NDCG`.
- Retrieval: `FullCorpusTopK` ranks positives among all candidates, never optimistic about ties; `hit_rate`, `recall`,
  `precision`, `mrr`, `ndcg` and `average_precision` judge lists of recommendations.
- Recommendations, right or not: `CatalogueCoverage`, `GiniIndex`, `Novelty`, `PopularityBias`, `IntraListDiversity`.
- Training, batch by batch: `BatchTopK` and `LossMean`.
"""

from retrank.metrics.auc import AUC
from retrank.metrics.batch import BatchTopK, LossMean
from retrank.metrics.beyond_accuracy import IntraListDiversity, Novelty, PopularityBias, PopularityMetric
from retrank.metrics.binary import binary_metrics
from retrank.metrics.binary_lists import (
    BinaryListMetric,
    HitRate,
    MeanAveragePrecision,
    MeanReciprocalRank,
    PrecisionAtK,
    RecallAtK,
)
from retrank.metrics.calibration import Calibration, CalibrationError, NormalizedEntropy
from retrank.metrics.classification import BinaryAccuracy, LabelMean, LogLoss, PredictionMean
from retrank.metrics.corpus import FullCorpusTopK, rank_of_positive
from retrank.metrics.distributed import merged_across_processes
from retrank.metrics.exposure import CatalogueCoverage, ExposureMetric, GiniIndex
from retrank.metrics.gain import DCG, NDCG, GainMetric
from retrank.metrics.grouped_auc import GroupedAUC
from retrank.metrics.list_metric import ListMetric
from retrank.metrics.metric import Metric, PointwiseMetric, SumMetric, WeightedMean
from retrank.metrics.ranking import average_precision, hit_rate, mrr, ndcg, precision, recall
from retrank.metrics.regression import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError

__all__ = [
    "AUC",
    "BatchTopK",
    "BinaryAccuracy",
    "BinaryListMetric",
    "Calibration",
    "CalibrationError",
    "CatalogueCoverage",
    "DCG",
    "ExposureMetric",
    "FullCorpusTopK",
    "GainMetric",
    "GiniIndex",
    "GroupedAUC",
    "HitRate",
    "IntraListDiversity",
    "LabelMean",
    "ListMetric",
    "LogLoss",
    "LossMean",
    "MeanAbsoluteError",
    "MeanAveragePrecision",
    "MeanReciprocalRank",
    "MeanSquaredError",
    "Metric",
    "NDCG",
    "NormalizedEntropy",
    "Novelty",
    "PointwiseMetric",
    "PopularityBias",
    "PopularityMetric",
    "PrecisionAtK",
    "PredictionMean",
    "RecallAtK",
    "RootMeanSquaredError",
    "SumMetric",
    "WeightedMean",
    "average_precision",
    "binary_metrics",
    "hit_rate",
    "merged_across_processes",
    "mrr",
    "ndcg",
    "precision",
    "rank_of_positive",
    "recall",
]
