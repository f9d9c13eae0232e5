"""Training progress: where positives rank among their batch, and the mean of the losses."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none, can_look
from retrank.metrics.metric import SumMetric

__all__ = ["BatchTopK", "LossMean"]


@final
class BatchTopK(SumMetric):
    """The share of rows whose positive is among the k best columns of its batch.

    A cheap sign of progress and no measure of a system: the columns are those that happen to be in the batch, after the
    corrections of the training loss. `FullCorpusTopK` ranks among all candidates.

    A positive that ties with others counts as the share of the orders of these ties that bring it among the k best. So
    a model with equal scores for all has `k / columns`.

    Args:
        ks: list lengths.
        name: precedes `_hit_rate@k` in the results.

    Raises:
        ConfigError: no k, or a k below 1.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.BatchTopK(ks=(1, 2))
        >>> metric.update(torch.tensor([[3.0, 2.0, 1.0], [5.0, 5.0, 5.0]]), torch.tensor([1, 1]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'batch_hit_rate@1': 0.167, 'batch_hit_rate@2': 0.833}

    Source: `TopKCategoricalAccuracy` of Keras, a batch metric of TensorFlow Recommenders, where every tie is a hit.
    """

    larger_is_better: ClassVar[bool | None] = True

    def __init__(self, ks: Sequence[int] = (1, 5, 10), *, name: str = "batch") -> None:
        if not ks or min(ks) < 1:
            raise ConfigError("at least one k, all at least 1", str(list(ks)), "BatchTopK", "e.g. ks=(1, 10)")
        self.ks = tuple(ks)
        super().__init__(name, num_sums=len(self.ks) + 2)

    @property
    def result_names(self) -> tuple[str, ...]:
        """The names of the values, such as `"batch_hit_rate@10"`."""
        return tuple(f"{self.name}_hit_rate@{k}" for k in self.ks)

    @torch.no_grad()
    def update(self, scores: Tensor, positives: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            scores: `(batch, columns)`; -inf for a column that takes no part.
            positives: `(batch,)` int64 column of each row's positive.
            weight: `(batch,)` or None for 1.

        Raises:
            ShapeError: tensors that do not fit.
            DataError: a positive outside of the columns. On a GPU torch's assertion stops the program instead.
        """
        where = f"metric '{self.name}'"
        scores, positives = as_tensor(scores, "scores", where), as_tensor(positives, "positives", where)
        weight = as_tensor_or_none(weight, "weight", where)
        rows = scores.shape[:1]
        if scores.dim() != 2 or positives.shape != rows or (weight is not None and weight.shape != rows):
            raise ShapeError(
                "scores (batch, columns), positives and weight (batch,)",
                f"{tuple(scores.shape)}, {tuple(positives.shape)}, {None if weight is None else tuple(weight.shape)}",
                f"metric '{self.name}'",
            )
        if can_look(positives) and bool((outside := (positives < 0) | (positives >= scores.shape[1])).any()):
            row = int(outside.nonzero()[0])
            where = f"metric '{self.name}', positives, row {row}"
            raise DataError(f"a column in [0, {scores.shape[1]})", str(int(positives[row])), where)
        scores = scores.detach()
        own = scores.gather(1, positives[:, None])
        better, alike = (scores > own).sum(dim=1).double(), (scores == own).sum(dim=1).double()
        weight = torch.ones_like(better) if weight is None else weight.to(better)
        shares = torch.stack([((k - better) / alike).clamp(0, 1) for k in self.ks])
        bad = scores.isnan().any(dim=1) | ~(weight.isfinite() & (weight >= 0))
        self._add(torch.cat([shares.nan_to_num() @ weight, weight.sum()[None], (bad & (weight != 0)).sum()[None]]))
        self.num_rows += len(scores)

    def compute(self) -> dict[str, Tensor]:
        """Return the weighted means over all rows so far.

        Returns:
            Float64 scalars by names like `"batch_hit_rate@10"`; NaN before the first row or if all weights are 0.

        Raises:
            DataError: NaN scores or negative weights were counted.
        """
        *totals, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, "scores that are numbers, and weights of at least 0")
        return {name: total / weight for name, total in zip(self.result_names, totals, strict=True)}


@final
class LossMean(SumMetric):
    """The mean of the scalar losses of batches, weighted by their rows.

    It reports the losses of several tasks in one model separately, or the loss without its regularization.

    Args:
        name: under which the result is reported.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.LossMean()
        >>> metric.update(torch.tensor(2.0), num_rows=3)
        >>> metric.update(torch.tensor(6.0), num_rows=1)
        >>> metric.compute().item()
        3.0

    Source: `Mean` of Keras as a loss metric of TensorFlow Recommenders, which gives a short last batch the weight of a
        full one.
    """

    larger_is_better: ClassVar[bool | None] = False

    def __init__(self, name: str = "task_loss") -> None:
        super().__init__(name, num_sums=2)

    @torch.no_grad()
    def update(self, loss: Tensor, num_rows: int) -> None:
        """Count the loss of a batch.

        Args:
            loss: scalar.
            num_rows: rows of the batch.

        Raises:
            ShapeError: the loss is no scalar.
        """
        if loss.dim() != 0:
            raise ShapeError(
                "a scalar loss", f"shape {tuple(loss.shape)}", f"metric '{self.name}'", "reduce the losses first"
            )
        loss = loss.detach().double()
        self._add(torch.stack([loss * num_rows, torch.full_like(loss, num_rows)]))
        self.num_rows += num_rows

    def compute(self) -> Tensor:
        """Return the mean over all rows so far, a float64 scalar; NaN before the first row."""
        total, rows = self._sums.unbind()
        return total / rows
