"""`AUC`: the area under the ROC curve, exact."""

from collections.abc import Mapping
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.metrics.metric import PointwiseMetric

__all__ = ["AUC"]


@final
class AUC(PointwiseMetric):
    """How often a row labelled 1 has a larger prediction than a row labelled 0; a tie counts half.

    Every pair counts as the product of its weights. All predictions are kept, 24 bytes per row, so the value is exact:
    there are no thresholds. It is NaN while only one of the labels occurs (with weight), as there are no pairs.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.AUC()
        >>> metric.update(torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([1, 1, 0, 0]))
        >>> metric.compute()
        tensor(0.8750, dtype=torch.float64)

    Source: Mann and Whitney (1947). Keras' `AUC` interpolates between 200 thresholds.
    """

    larger_is_better: ClassVar[bool | None] = True

    def __init__(self, *, name: str = "auc") -> None:
        super().__init__(name)
        self._batches: list[Tensor] = []

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Keep a batch; see `PointwiseMetric.update`.

        Args:
            predictions: `(batch,)` or any shape; any numbers, larger if 1 is likelier.
            labels: of the same shape, 0 or 1.
            weight: of the same shape, or None for 1.
        """
        self._batches.append(torch.stack([part.flatten() for part in self._checked(predictions, labels, weight)]))

    @torch.no_grad()
    def compute(self) -> Tensor:
        """Return the area over all rows so far, a float64 scalar; NaN while only one label occurs.

        Raises:
            DataError: a prediction is NaN, a label neither 0 nor 1, or a weight negative or not finite.
        """
        predictions, labels, weight = self._rows()
        good = ((labels == 0) | (labels == 1)) & ~predictions.isnan() & weight.isfinite() & (weight >= 0)
        if not bool(good.all()):
            row = int((~good).nonzero()[0])
            raise DataError(
                "predictions that are numbers, labels 0 or 1, finite weights of at least 0",
                f"prediction {predictions[row]}, label {labels[row]}, weight {weight[row]}",
                f"metric '{self.name}', row {row}",
            )
        _, group = predictions.unique(return_inverse=True)
        positive, negative = torch.bincount(group, weight * labels), torch.bincount(group, weight * (1 - labels))
        below = negative.cumsum(0) - negative
        return (positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum())

    def reset(self) -> None:
        """Reset to the state before the first row."""
        self.num_rows = 0
        self._batches = []

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        return {"rows": self._rows()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: of another `AUC`.
        """
        self._batches, self.num_rows = [state["rows"].clone()], state["rows"].shape[1]

    def _merge(self, other: Self) -> None:
        self._batches.append(other._rows())

    def _rows(self) -> Tensor:
        """Return `(3, rows)` float64: predictions, labels, weights."""
        if not self._batches:
            return torch.empty(3, 0, dtype=torch.float64)
        device = self._batches[-1].device
        self._batches = [torch.cat([batch.to(device) for batch in self._batches], dim=1)]
        return self._batches[0]
