"""Calibration: whether predicted probabilities match frequencies."""

from typing import ClassVar, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.metrics.classification import log_losses
from retrank.metrics.metric import PointwiseMetric, SumMetric

__all__ = ["Calibration", "CalibrationError", "NormalizedEntropy"]

_EXPECTED = "predictions and labels in [0, 1], and finite weights of at least 0"


@final
class Calibration(SumMetric, PointwiseMetric):
    """Σ weight·prediction / Σ weight·label: how many positives are predicted for each that occurs. 1 is best.

    It is NaN before the first row, and infinite while there are predictions but no positives.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.Calibration()
        >>> metric.update(torch.tensor([0.5, 0.25]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)

    Source: He et al. (2014), "Practical Lessons from Predicting Clicks on Ads at Facebook".
    """

    def __init__(self, *, name: str = "calibration") -> None:
        super().__init__(name, num_sums=3)

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch; see `PointwiseMetric.update`.

        Args:
            predictions: `(batch,)` or any shape, probabilities.
            labels: of the same shape, from 0 to 1.
            weight: of the same shape, or None for 1.
        """
        predictions, labels, weight = self._checked(predictions, labels, weight)
        bad = _is_bad(predictions, labels, weight)
        self._add(torch.stack([(weight * predictions).sum(), (weight * labels).sum(), bad.sum()]))

    def compute(self) -> Tensor:
        """Return the ratio over all rows so far, a float64 scalar.

        Raises:
            DataError: predictions or labels outside of [0, 1], or bad weights, were counted.
        """
        predicted, positive, num_bad = self._sums
        self._check_bad_rows(num_bad, _EXPECTED)
        ratio: Tensor = predicted / positive
        return ratio


@final
class NormalizedEntropy(SumMetric, PointwiseMetric):
    """Log loss by that of always predicting the labels' mean: below 1 is better than the base rate.

    Unlike the log loss it can be compared between data with different shares of positives. It is NaN while only one
    label occurs, as there is nothing to predict.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.NormalizedEntropy()
        >>> metric.update(torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([1, 0, 0, 1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)

    Source: He et al. (2014), "Practical Lessons from Predicting Clicks on Ads at Facebook".
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, *, name: str = "normalized_entropy") -> None:
        super().__init__(name, num_sums=4)

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch; see `PointwiseMetric.update`.

        Args:
            predictions: `(batch,)` or any shape, probabilities.
            labels: of the same shape, from 0 to 1.
            weight: of the same shape, or None for 1.
        """
        predictions, labels, weight = self._checked(predictions, labels, weight)
        losses = log_losses(predictions, labels)
        bad = _is_bad(predictions, labels, weight)
        self._add(torch.stack([(weight * losses).sum(), (weight * labels).sum(), weight.sum(), bad.sum()]))

    def compute(self) -> Tensor:
        """Return the ratio over all rows so far, a float64 scalar.

        Raises:
            DataError: predictions or labels outside of [0, 1], or bad weights, were counted.
        """
        loss, positive, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, _EXPECTED)
        rate = positive / weight
        entropy = -torch.xlogy(rate, rate) - torch.xlogy(1 - rate, 1 - rate)
        return torch.where(entropy > 0, loss / weight / entropy, torch.nan)


@final
class CalibrationError(SumMetric, PointwiseMetric):
    """Mean distance between predictions and labels in bins of similar predictions. 0 is best.

    In each of the bins, all of one width, the distance is |mean prediction - mean label|; a bin counts by its rows'
    weight. A prediction on the edge of two bins counts in the upper one.

    Args:
        num_bins: of one width in [0, 1].
        name: under which the result is reported.

    Raises:
        ConfigError: no bin.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.CalibrationError()
        >>> metric.update(torch.tensor([0.75, 0.75, 0.75, 0.75]), torch.tensor([1, 1, 1, 0]))
        >>> metric.compute()
        tensor(0., dtype=torch.float64)

    Source: Naeini et al. (2015), expected calibration error.
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, num_bins: int = 15, *, name: str = "calibration_error") -> None:
        if num_bins < 1:
            raise ConfigError("at least one bin", str(num_bins), "CalibrationError", "15 is usual")
        super().__init__(name, num_sums=num_bins + 2)
        self.num_bins = num_bins

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch; see `PointwiseMetric.update`.

        Args:
            predictions: `(batch,)` or any shape, probabilities.
            labels: of the same shape, from 0 to 1.
            weight: of the same shape, or None for 1.
        """
        predictions, labels, weight = self._checked(predictions, labels, weight)
        predictions, labels, weight = predictions.flatten(), labels.flatten(), weight.flatten()
        bad = _is_bad(predictions, labels, weight)
        bins = (predictions.nan_to_num() * self.num_bins).long().clamp(0, self.num_bins - 1)
        too_much = predictions.new_zeros(self.num_bins).index_add(0, bins, weight * (predictions - labels))
        self._add(torch.cat([too_much, weight.sum()[None], bad.sum()[None]]))

    def compute(self) -> Tensor:
        """Return the error over all rows so far, a float64 scalar; NaN before the first row.

        Raises:
            DataError: predictions or labels outside of [0, 1], or bad weights, were counted.
        """
        weight, num_bad = self._sums[-2:]
        self._check_bad_rows(num_bad, _EXPECTED)
        error: Tensor = self._sums[:-2].abs().sum() / weight
        return error


def _is_bad(predictions: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    inside = (predictions >= 0) & (predictions <= 1) & (labels >= 0) & (labels <= 1)
    return ~(inside & weight.isfinite() & (weight >= 0))
