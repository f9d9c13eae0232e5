"""`Ranking`: learn labels from predictions, row by row or list by list."""

import copy
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from retrank.core.errors import ConfigError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import FINITE, checked, checked_weight
from retrank.losses.list_loss import ListLoss
from retrank.tasks.row_weights import as_row_weights
from retrank.tasks.task import LossMetric, Task, TaskMetric

__all__ = ["Ranking"]


@final
class Ranking(Task[TaskMetric]):
    """The mean loss of predictions against labels, or their sum.

    Predictions are `(batch,)`, or `(batch, list)` for lists of one query's candidates each. A loss of rows, such as
    `nn.MSELoss`, takes either and has an entry for each prediction; a loss of lists, such as `rr.losses.ListMLELoss`,
    compares the predictions of a list and has an entry for each list or item. The result is the mean over all entries.

    Lists of different length are padded. What the mask leaves out changes neither loss nor metrics, and gets no
    gradient; with a loss of lists, neither does what has a label below 0. Padded entries still count in the mean.

    A sum grows with the batch, and with it the steps of an optimizer: a learning rate then belongs to a batch size.

    Args:
        loss: a torch loss with mean reduction, a loss of lists, or a module that maps predictions and labels to one
            loss per prediction, or one per list. Binary cross-entropy on logits by default.
        metrics: fed with transformed predictions: `rr.metrics.binary_metrics()`, or `rr.metrics.NDCG()` for lists.
        prediction_transform: what turns predictions into what the metrics expect; by default a sigmoid if the loss is
            `nn.BCEWithLogitsLoss`, else the identity.
        reduction: `"mean"` over all entries or `"sum"`.
        loss_metrics: fed with the loss of each batch, e.g. `rr.metrics.LossMean()`.

    Raises:
        ConfigError: a loss with another reduction than the mean, an unknown `reduction`, or two metrics of one name.

    Example:
        >>> import torch, retrank as rr
        >>> task = rr.tasks.Ranking(loss=torch.nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])
        >>> task(labels=torch.tensor([5.0, 1.0]), predictions=torch.tensor([4.0, 4.0]))
        tensor(5.)
        >>> round(task.results()["rmse"].item(), 3)
        2.236
        >>> task = rr.tasks.Ranking(rr.losses.ListMLELoss(), metrics=[rr.metrics.NDCG()])
        >>> task(labels=torch.tensor([[5.0, 1.0, -1.0]]), predictions=torch.zeros(1, 3))  # log 2: the third is padding
        tensor(0.6931)

    Source: `tasks.Ranking` of TensorFlow Recommenders, whose default loss takes probabilities; logits are the same in
        exact arithmetic and keep their gradient where a float32 probability has become 0 or 1.
    """

    def __init__(
        self,
        loss: nn.Module | None = None,
        metrics: Sequence[TaskMetric] = (),
        *,
        prediction_transform: nn.Module | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        loss_metrics: Sequence[LossMetric] = (),
    ) -> None:
        super().__init__(metrics, others=loss_metrics)
        self.loss_metrics = tuple(loss_metrics)
        if reduction not in ("mean", "sum"):
            raise ConfigError("'mean' or 'sum'", repr(reduction), "Ranking(reduction=...)")
        self.reduction = reduction
        loss = nn.BCEWithLogitsLoss() if loss is None else loss
        if getattr(loss, "reduction", "mean") != "mean":
            raise ConfigError(
                "a loss with reduction 'mean'",
                repr(loss.reduction),
                "Ranking(loss=...)",
                "leave it at the default and use Ranking(reduction='sum')",
            )
        self.loss = copy.copy(loss)
        if hasattr(loss, "reduction"):
            self.loss.reduction = "none"  # type: ignore[assignment]
        if prediction_transform is None:
            prediction_transform = nn.Sigmoid() if isinstance(loss, nn.BCEWithLogitsLoss) else nn.Identity()
        self.prediction_transform = prediction_transform

    def forward(
        self,
        labels: Tensor,
        predictions: Tensor,
        *,
        weight: Tensor | float | None = None,
        mask: Tensor | None = None,
        update_metrics: bool = True,
    ) -> Tensor:
        """Return the loss, and feed the metrics.

        Args:
            labels: `(batch,)`, `(batch, list)` or any shape.
            predictions: of the labels' shape, before `prediction_transform`.
            weight: factor of each loss, `(batch,)` or `(batch, 1)` for rows and lists, a number for all, or, if the
                loss has an entry for each prediction, of the labels' shape; None for 1.
            mask: of the labels' shape, bool, False for entries that take no part; None for none.
            update_metrics: whether the metrics count this batch.

        Returns:
            A scalar: Σ weight·loss / entries (not / Σ weight, unlike metrics), or Σ weight·loss; 0 for an empty batch.

        Raises:
            ShapeError: the shapes or dtypes do not fit, or the loss has no entries for rows.
            DataError: labels that the loss cannot take (a loss of your own must say so itself), or weights that are
                negative or not finite. On a GPU the loss becomes NaN instead.
        """
        labels, predictions = as_tensor(labels, "labels", "Ranking"), as_tensor(predictions, "predictions", "Ranking")
        mask = as_tensor_or_none(mask, "mask", "Ranking")
        weight = as_row_weights(weight, predictions, "Ranking")
        self._check(labels, predictions, weight, mask)
        if isinstance(self.loss, ListLoss):
            mask = ~(labels < 0) if mask is None else mask & ~(labels < 0)  # metrics refuse NaN
        if mask is not None:
            labels, predictions = labels.where(mask, 0), predictions.where(mask, 0)  # a NaN there must not spread
        losses = self._losses(labels, predictions, weight, mask)
        loss = losses.sum()
        loss = loss / max(losses.numel(), 1) if self.reduction == "mean" else loss
        if update_metrics:
            with torch.no_grad():
                transformed = self.prediction_transform(predictions.detach())
                factor = _entry_weights(predictions, weight, mask)
                for metric in self.metrics:
                    metric.update(transformed, labels, factor)
            for loss_metric in self.loss_metrics:
                loss_metric.update(loss.detach(), losses.numel())
        return loss

    def _losses(self, labels: Tensor, predictions: Tensor, weight: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return the weighted entries of the loss."""
        if isinstance(self.loss, ListLoss):
            entries: Tensor = self.loss(predictions, labels, mask=mask, weight=weight)
            return entries
        predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
        predictions, labels = _checked(self.loss, predictions, labels.to(predictions.dtype))
        weight = None if weight is None else checked_weight(weight, "Ranking")
        losses: Tensor = self.loss(predictions, labels)
        rows = predictions.shape[:1]
        if losses.shape != predictions.shape and (losses.shape != rows or mask is not None):
            raise ShapeError(
                f"one loss per row, shape {tuple(predictions.shape)}",
                str(tuple(losses.shape)),
                "Ranking(loss=...)",
                "return losses before any reduction; for one per list, with masks, derive it from rr.losses.ListLoss",
            )
        if weight is not None and weight.shape not in (rows, losses.shape):
            raise ShapeError(f"weight of shape {tuple(rows)}", str(tuple(weight.shape)), "Ranking")
        factor = _entry_weights(losses, weight, mask)
        if factor is None:
            return losses
        return torch.where(factor == 0, 0, losses * factor)  # an infinite loss times 0 would be NaN

    @staticmethod
    def _check(labels: Tensor, predictions: Tensor, weight: Tensor | None, mask: Tensor | None) -> None:
        if not predictions.is_floating_point():
            raise ShapeError(
                "float predictions", str(predictions.dtype), "Ranking", "are labels and predictions swapped?"
            )
        if mask is not None and mask.dtype != torch.bool:
            raise ShapeError("a bool mask", str(mask.dtype), "Ranking", "True keeps a prediction")
        for name, tensor in (("labels", labels), ("weight", weight), ("mask", mask)):
            rows_too = name == "weight" and tensor is not None and tensor.shape == predictions.shape[:1]
            if tensor is not None and tensor.shape != predictions.shape and not rows_too:
                raise ShapeError(
                    f"{name} of the predictions' shape {tuple(predictions.shape)}",
                    str(tuple(tensor.shape)),
                    "Ranking",
                    "reshape one of them: broadcasting would compare every row with every other",
                )


def _checked(loss: nn.Module, predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse what a loss of torch would accept silently, or refuse with an error of its own."""
    name = type(loss).__name__
    if isinstance(loss, nn.BCELoss):
        expected, fix = "probabilities", "for logits, use nn.BCEWithLogitsLoss"
        predictions = checked(predictions, 0, 1, expected=expected, where=name, name="predictions", fix=fix)
    if isinstance(loss, nn.BCELoss | nn.BCEWithLogitsLoss):
        labels = checked(labels, 0, 1, expected="labels from 0 to 1", where=name, name="labels")
    elif isinstance(loss, nn.modules.loss._Loss):
        least = 0 if isinstance(loss, nn.PoissonNLLLoss) else -FINITE
        expected = "finite labels" if least else "finite labels of at least 0"
        labels = checked(labels, least, FINITE, expected=expected, where=name, name="labels")
    return predictions, labels


def _entry_weights(entries: Tensor, weight: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Return the weight of each entry, 0 where the mask leaves it out; None for 1."""
    if weight is not None and weight.dim() < entries.dim():
        weight = weight.view(-1, *[1] * (entries.dim() - 1)).expand_as(entries)
    if mask is None:
        return weight
    return mask.to(torch.float32) if weight is None else weight.where(mask, 0)
