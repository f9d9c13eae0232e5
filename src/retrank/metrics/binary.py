"""`binary_metrics`: what suits labels 0 and 1."""

from retrank.metrics.auc import AUC
from retrank.metrics.calibration import CalibrationError
from retrank.metrics.classification import BinaryAccuracy, LabelMean, PredictionMean
from retrank.metrics.metric import PointwiseMetric

__all__ = ["binary_metrics"]


def binary_metrics() -> list[PointwiseMetric]:
    """Return new metrics that suit labels 0 and 1: AUC, accuracy, calibration error and means.

    Returns:
        Metrics for a task that predicts probabilities.

    Example:
        >>> import retrank as rr
        >>> [metric.name for metric in rr.metrics.binary_metrics()]
        ['auc', 'accuracy', 'calibration_error', 'prediction_mean', 'label_mean']
    """
    return [AUC(), BinaryAccuracy(), CalibrationError(), PredictionMean(), LabelMean()]
