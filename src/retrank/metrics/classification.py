"""How well predicted probabilities separate labels 1 from labels 0."""

from typing import ClassVar, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.metrics.metric import WeightedMean

__all__ = ["BinaryAccuracy", "LabelMean", "LogLoss", "PredictionMean", "log_losses"]


@final
class BinaryAccuracy(WeightedMean):
    """Weighted share of rows whose label, 0 or 1, is what the threshold makes of the prediction.

    Args:
        threshold: a probability above it predicts 1.
        name: under which the result is reported.

    Raises:
        ConfigError: the threshold is no probability.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.BinaryAccuracy()
        >>> metric.update(torch.tensor([0.9, 0.2, 0.4]), torch.tensor([1, 0, 1]))
        >>> round(metric.compute().item(), 3)
        0.667
    """

    larger_is_better: ClassVar[bool | None] = True

    def __init__(self, *, threshold: float = 0.5, name: str = "accuracy") -> None:
        super().__init__(name)
        if not 0 <= threshold <= 1:
            raise ConfigError("a threshold in [0, 1]", str(threshold), "BinaryAccuracy")
        self.threshold = threshold

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        correct = ((predictions > self.threshold) == (labels == 1)).double()
        return correct.where(((labels == 0) | (labels == 1)) & predictions.isfinite(), torch.nan)


@final
class LogLoss(WeightedMean):
    """Weighted mean of -label·log(p) - (1 - label)·log(1 - p).

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.LogLoss()
        >>> metric.update(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
        >>> round(metric.compute().item(), 3)
        0.693

    Source: `log_loss` of scikit-learn. As there, probabilities of exactly 0 and 1, which a float32 sigmoid reaches, are
        moved inside by the precision of float32.
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, *, name: str = "log_loss") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return log_losses(predictions, labels)


@final
class PredictionMean(WeightedMean):
    """Weighted mean of the predictions; compared with `LabelMean` it shows a bias of the model.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.PredictionMean()
        >>> metric.update(torch.tensor([0.25, 0.75]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(self, *, name: str = "prediction_mean") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        return predictions


@final
class LabelMean(WeightedMean):
    """Weighted mean of the labels.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.LabelMean()
        >>> metric.update(torch.tensor([0.25, 0.75]), torch.tensor([1, 1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(self, *, name: str = "label_mean") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        return labels


def log_losses(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return -label·log(p) - (1 - label)·log(1 - p) of each row, as `LogLoss` counts it.

    Args:
        predictions: float64 probabilities of any shape.
        labels: float64 of the same shape, from 0 to 1.

    Returns:
        Float64 of the same shape; NaN where prediction or label is outside of [0, 1].
    """
    smallest = torch.finfo(torch.float32).eps
    inside = predictions.clamp(smallest, 1 - smallest)
    loss = -torch.xlogy(labels, inside) - torch.xlogy(1 - labels, 1 - inside)
    in_range = (predictions >= 0) & (predictions <= 1) & (labels >= 0) & (labels <= 1)
    return loss.where(in_range, torch.nan)
