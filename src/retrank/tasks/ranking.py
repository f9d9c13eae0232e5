"""`Ranking`: learn labels from predictions."""

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.errors import ConfigError, ShapeError
from retrank.tasks.task import LossMetric, Task, TaskMetric

__all__ = ["Ranking"]


@final
class Ranking(Task[TaskMetric]):
    """The mean loss of predictions against labels.

    Args:
        loss: a torch loss with mean reduction, or a module that maps predictions and labels to one loss a row. Binary
            cross-entropy on logits by default.
        metrics: fed with transformed predictions, e.g. `rr.metrics.binary_metrics()`.
        prediction_transform: what turns predictions into what the metrics expect; by default a sigmoid if the loss is
            `nn.BCEWithLogitsLoss`, else nothing.
        loss_metrics: fed with the loss of each batch, e.g. `rr.metrics.LossMean()`.

    Raises:
        ConfigError: a loss with another reduction than the mean, or two metrics of one name.

    Example:
        >>> import torch, retrank as rr
        >>> task = rr.tasks.Ranking(loss=torch.nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])
        >>> task(labels=torch.tensor([5.0, 1.0]), predictions=torch.tensor([4.0, 4.0]))
        tensor(5.)
        >>> round(task.results()["rmse"].item(), 3)
        2.236

    Source: `tasks.Ranking` of TensorFlow Recommenders, whose default loss takes probabilities; logits are the same in
        exact arithmetic and keep their gradient where a float32 probability has become 0 or 1.
    """

    def __init__(
        self,
        loss: nn.Module | None = None,
        metrics: Sequence[TaskMetric] = (),
        *,
        prediction_transform: nn.Module | None = None,
        loss_metrics: Sequence[LossMetric] = (),
    ) -> None:
        super().__init__(metrics, others=loss_metrics)
        self.loss_metrics = tuple(loss_metrics)
        loss = nn.BCEWithLogitsLoss() if loss is None else loss
        if getattr(loss, "reduction", "mean") != "mean":
            raise ConfigError(
                "a loss with reduction 'mean'", repr(loss.reduction), "Ranking(loss=...)", "leave the reduction to it"
            )
        self.loss = copy.copy(loss)
        if hasattr(loss, "reduction"):
            self.loss.reduction = "none"  # type: ignore[assignment]
        if prediction_transform is None:
            prediction_transform = nn.Sigmoid() if isinstance(loss, nn.BCEWithLogitsLoss) else nn.Identity()
        self.prediction_transform = prediction_transform

    def forward(
        self, labels: Tensor, predictions: Tensor, *, weight: Tensor | None = None, update_metrics: bool = True
    ) -> Tensor:
        """Return the loss, and feed the metrics.

        Args:
            labels: `(batch,)` or any shape.
            predictions: of the labels' shape, before `prediction_transform`.
            weight: of the labels' shape, factor of each row's loss, or None.
            update_metrics: whether the metrics count this batch.

        Returns:
            A scalar: Σ weight·loss / rows (not / Σ weight, as metrics have it); 0 for an empty batch.

        Raises:
            ShapeError: the shapes differ, or predictions are no floats.
        """
        self._check(labels, predictions, weight)
        if update_metrics:
            with torch.no_grad():
                transformed = self.prediction_transform(predictions.detach())
                for metric in self.metrics:
                    metric.update(transformed, labels, weight)
        predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
        losses: Tensor = self.loss(predictions, labels.to(predictions.dtype))
        if losses.shape != predictions.shape:
            raise ShapeError(
                f"one loss a row, shape {tuple(predictions.shape)}",
                str(tuple(losses.shape)),
                "Ranking(loss=...)",
                "return losses before any reduction",
            )
        if weight is not None:
            losses = torch.where(weight == 0, 0, losses * weight)  # an infinite loss times 0 would be NaN
        loss = losses.sum() / max(losses.numel(), 1)
        if update_metrics:
            for loss_metric in self.loss_metrics:
                loss_metric.update(loss.detach(), losses.numel())
        return loss

    def _check(self, labels: Tensor, predictions: Tensor, weight: Tensor | None) -> None:
        if not predictions.is_floating_point():
            raise ShapeError(
                "float predictions", str(predictions.dtype), "Ranking", "are labels and predictions swapped?"
            )
        for name, tensor in (("labels", labels), ("weight", weight)):
            if tensor is not None and tensor.shape != predictions.shape:
                raise ShapeError(
                    f"{name} of the predictions' shape {tuple(predictions.shape)}",
                    str(tuple(tensor.shape)),
                    "Ranking",
                    "reshape one of them: broadcasting would compare every row with every other",
                )
