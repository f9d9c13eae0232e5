"""How far predictions are from labels."""

from typing import ClassVar, final

from torch import Tensor

from retrank.metrics.metric import WeightedMean

__all__ = ["MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError"]


@final
class MeanSquaredError(WeightedMean):
    """Weighted mean of (prediction - label)².

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.MeanSquaredError()
        >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, *, name: str = "mse") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return (predictions - labels).square()


@final
class RootMeanSquaredError(WeightedMean):
    """Square root of the weighted mean of (prediction - label)².

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.RootMeanSquaredError()
        >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]), weight=torch.tensor([3.0, 1.0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, *, name: str = "rmse") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return (predictions - labels).square()

    def _finalize(self, mean: Tensor) -> Tensor:
        return mean.sqrt()


@final
class MeanAbsoluteError(WeightedMean):
    """Weighted mean of |prediction - label|.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.MeanAbsoluteError()
        >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, *, name: str = "mae") -> None:
        super().__init__(name)

    def _values(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return (predictions - labels).abs()
