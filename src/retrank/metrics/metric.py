"""`Metric`, and the weighted means that most metrics are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none

__all__ = ["Metric", "PointwiseMetric", "SumMetric", "WeightedMean"]


class Metric(Configurable, ABC):
    """A number that sums up many batches.

    The state follows the data to its device and is never cast with the model, so a metric is no `nn.Module`. Updating
    does not wait for the device; `compute` reports what is wrong with the values.

    Args:
        name: under which the result is reported.
    """

    larger_is_better: ClassVar[bool | None] = None
    """Whether a larger value is a better one; None where neither is, as of a mean of labels. Callbacks go by it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_rows = 0
        """Rows counted since the last reset."""

    @property
    def result_names(self) -> tuple[str, ...]:
        """The names that `compute` gives its values: the metric's own, unless there are several."""
        return (self.name,)

    @abstractmethod
    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the value, or values by name, over all rows so far."""

    @abstractmethod
    def reset(self) -> None:
        """Reset to the state before the first row."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: of a metric with the same configuration.
        """

    def merge(self, other: Self) -> None:
        """Count the rows of another metric, too.

        Args:
            other: of the same kind and configuration; it is left as it is.

        Raises:
            ConfigError: it is of another kind or configuration.
        """
        if type(other) is not type(self) or other.config != self.config:
            raise ConfigError(
                f"a {type(self).__name__} with {self.config}",
                f"a {type(other).__name__} with {other.config}",
                f"metric '{self.name}', merge",
            )
        self.num_rows += other.num_rows
        self._merge(other)

    @abstractmethod
    def _merge(self, other: Self) -> None: ...


class PointwiseMetric(Metric):
    """A metric of one prediction and one label per row; NumPy arrays are taken, too."""

    @abstractmethod
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            predictions: `(batch,)` or any shape.
            labels: of the same shape.
            weight: of the same shape, or None for 1.

        Raises:
            ShapeError: the shapes differ. `(batch,)` and `(batch, 1)` would broadcast to `(batch, batch)`.
        """

    @abstractmethod
    def compute(self) -> Tensor:
        """Return the value over all rows so far, a float64 scalar; NaN before the first row.

        Raises:
            DataError: predictions, labels or weights for which the metric has no meaning were counted.
        """

    def _checked(self, predictions: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return detached float64 predictions, labels and weights of one shape, and count the rows."""
        where = f"metric '{self.name}'"
        predictions, labels = as_tensor(predictions, "predictions", where), as_tensor(labels, "labels", where)
        weight = as_tensor_or_none(weight, "weight", where)
        for what, tensor in (("labels", labels), ("weight", weight)):
            if tensor is not None and tensor.shape != predictions.shape:
                raise ShapeError(
                    f"{what} of the predictions' shape {tuple(predictions.shape)}",
                    str(tuple(tensor.shape)),
                    where,
                    "reshape one of them, e.g. with .squeeze(1)",
                )
        self.num_rows += predictions.numel()
        predictions, labels = predictions.detach().double(), labels.detach().to(predictions.device, torch.float64)
        return predictions, labels, torch.ones_like(labels) if weight is None else weight.detach().to(labels)


class SumMetric(Metric):
    """A metric whose state is a vector of float64 sums.

    Args:
        name: under which the result is reported.
        num_sums: length of the vector.
    """

    def __init__(self, name: str, num_sums: int) -> None:
        super().__init__(name)
        self._sums = torch.zeros(num_sums, dtype=torch.float64)

    def reset(self) -> None:
        """Reset to the state before the first row."""
        self.num_rows = 0
        self._sums = torch.zeros_like(self._sums)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        return {"sums": self._sums.clone(), "num_rows": torch.tensor(self.num_rows)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: of a metric with the same configuration.

        Raises:
            ConfigError: it is of another configuration.
        """
        if state["sums"].shape != self._sums.shape:
            raise ConfigError(f"{len(self._sums)} sums", f"{tuple(state['sums'].shape)}", f"metric '{self.name}'")
        self._sums, self.num_rows = state["sums"].clone(), int(state["num_rows"])

    def _add(self, sums: Tensor) -> None:
        self._sums = self._sums.to(sums.device) + sums

    def _merge(self, other: Self) -> None:
        self._sums = self._sums + other._sums.to(self._sums.device)

    def _check_bad_rows(self, num_bad: Tensor, expected: str) -> None:
        if num_bad > 0:
            raise DataError(
                expected,
                f"something else in {int(num_bad)} of {self.num_rows} rows",
                f"metric '{self.name}'",
                "the model's output may be NaN, a label out of range or a weight negative",
            )


class WeightedMean(SumMetric, PointwiseMetric):
    """A metric that is (a function of) Σ weight·value / Σ weight.

    Args:
        name: under which the result is reported.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, num_sums=3)

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch; see `PointwiseMetric.update`.

        Args:
            predictions: `(batch,)` or any shape.
            labels: of the same shape.
            weight: of the same shape, or None for 1.
        """
        predictions, labels, weight = self._checked(predictions, labels, weight)
        values = self._values(predictions, labels)
        bad = ~(values.isfinite() & weight.isfinite() & (weight >= 0))
        self._add(torch.stack([(weight * values).sum(), weight.sum(), bad.sum()]))

    def compute(self) -> Tensor:
        """Return the value over all rows so far, a float64 scalar; NaN before the first row or if all weights are 0.

        Raises:
            DataError: values that are not finite, labels out of range or negative weights were counted.
        """
        total, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, "finite predictions and labels in range, and weights of at least 0")
        return self._finalize(total / weight)

    @abstractmethod
    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return one float64 value per row; NaN marks a row for which the metric has no meaning."""

    def _finalize(self, mean: Tensor) -> Tensor:
        return mean
