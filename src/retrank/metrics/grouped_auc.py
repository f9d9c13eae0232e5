"""`GroupedAUC`: the area under the ROC curve within each group, e.g. each query."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.metrics.metric import Metric

__all__ = ["GroupedAUC"]


@final
class GroupedAUC(Metric):
    """Mean over groups of the area under each one's ROC curve: how well rows are ordered where they compete.

    Within a group, every pair of a row labelled 1 and a row labelled 0 counts as the product of its weights; a tie
    counts half. Groups in which only one of the labels occurs (with weight) have no pairs and are left out. All rows
    are kept, 32 bytes per row, so the value is exact.

    Args:
        average: `"rows"` weighs each group by its rows' weight, `"groups"` weighs all equally.
        name: under which the result is reported.

    Raises:
        ConfigError: an unknown average.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.GroupedAUC()
        >>> queries, labels = torch.tensor([7, 7, 9, 9]), torch.tensor([1, 0, 1, 0])
        >>> metric.update(torch.tensor([0.2, 0.1, 0.9, 0.8]), labels, groups=queries)  # 0.8 > 0.2, in another group
        >>> metric.compute()
        tensor(1., dtype=torch.float64)

    Source: Zhou et al. (2018), "Deep Interest Network for Click-Through Rate Prediction".
    """

    larger_is_better: ClassVar[bool | None] = True

    def __init__(self, *, average: Literal["rows", "groups"] = "rows", name: str = "grouped_auc") -> None:
        super().__init__(name)
        if average not in ("rows", "groups"):
            raise ConfigError("average 'rows' or 'groups'", repr(average), "GroupedAUC")
        self.average = average
        self._batches: list[Tensor] = []
        self._groups: list[Tensor] = []

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None, *, groups: Tensor) -> None:
        """Keep a batch.

        Args:
            predictions: `(batch,)`; any numbers, larger if 1 is likelier.
            labels: `(batch,)`, 0 or 1.
            weight: `(batch,)` or None for 1.
            groups: `(batch,)` int64, rows of one group have the same number.

        Raises:
            ShapeError: shapes or dtypes that do not fit.
        """
        where = f"metric '{self.name}'"
        predictions, labels = as_tensor(predictions, "predictions", where), as_tensor(labels, "labels", where)
        weight, groups = (
            as_tensor_or_none(weight, "weight", where),
            as_tensor(groups, "groups", where),
        )
        shape = predictions.shape
        for what, tensor in (("labels", labels), ("weight", weight), ("groups", groups)):
            if predictions.dim() != 1 or (tensor is not None and tensor.shape != shape):
                got = "None" if tensor is None else str(tuple(tensor.shape))
                raise ShapeError(
                    f"predictions and {what} of one shape (batch,)",
                    f"{tuple(shape)} and {got}",
                    f"metric '{self.name}'",
                )
        if groups.dtype != torch.int64:
            raise ShapeError("int64 groups", str(groups.dtype), f"metric '{self.name}'", "use e.g. vocabulary ids")
        predictions = predictions.detach().double()
        weight = torch.ones_like(predictions) if weight is None else weight.detach().to(predictions)
        self._batches.append(torch.stack([predictions, labels.detach().to(predictions), weight]))
        self._groups.append(groups.detach().to(predictions.device))
        self.num_rows += len(predictions)

    @torch.no_grad()
    def compute(self) -> Tensor:
        """Return the mean area over all groups so far, a float64 scalar; NaN before the first group with both labels.

        Raises:
            DataError: a prediction is NaN, a label neither 0 nor 1, or a weight negative or not finite.
        """
        (predictions, labels, weight), groups = self._rows()
        self._check_rows(predictions, labels, weight)
        _, group = torch.unique(groups, return_inverse=True)
        values, value = torch.unique(predictions, return_inverse=True)
        # Rows with one group and one prediction share a cell; cells come sorted by group, then by prediction.
        cells, cell = torch.unique(group * max(len(values), 1) + value, return_inverse=True)
        of_cell = cells // max(len(values), 1)
        positive, negative = torch.bincount(cell, weight * labels), torch.bincount(cell, weight * (1 - labels))
        positives, negatives = torch.bincount(of_cell, positive), torch.bincount(of_cell, negative)
        before = negatives.cumsum(0) - negatives
        below = negative.cumsum(0) - negative - before[of_cell]
        area = torch.bincount(of_cell, positive * (below + negative / 2)) / (positives * negatives)
        counts = (positives > 0) & (negatives > 0)
        share = (positives + negatives if self.average == "rows" else torch.ones_like(area)).where(counts, 0)
        return (area.where(counts, 0) * share).sum() / share.sum()

    def reset(self) -> None:
        """Reset to the state before the first row."""
        self.num_rows = 0
        self._batches, self._groups = [], []

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        rows, groups = self._rows()
        return {"rows": rows, "groups": groups}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: of another `GroupedAUC`.
        """
        self._batches, self._groups = [state["rows"].clone()], [state["groups"].clone()]
        self.num_rows = len(state["groups"])

    def _merge(self, other: Self) -> None:
        rows, groups = other._rows()
        self._batches.append(rows)
        self._groups.append(groups)

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Return `(3, rows)` float64 predictions, labels and weights, and `(rows,)` groups."""
        if not self._batches:
            return torch.empty(3, 0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
        device = self._batches[-1].device
        self._batches = [torch.cat([batch.to(device) for batch in self._batches], dim=1)]
        self._groups = [torch.cat([groups.to(device) for groups in self._groups])]
        return self._batches[0], self._groups[0]

    def _check_rows(self, predictions: Tensor, labels: Tensor, weight: Tensor) -> None:
        good = ((labels == 0) | (labels == 1)) & ~predictions.isnan() & weight.isfinite() & (weight >= 0)
        if not bool(good.all()):
            row = int((~good).nonzero()[0])
            raise DataError(
                "predictions that are numbers, labels 0 or 1, finite weights of at least 0",
                f"prediction {predictions[row]}, label {labels[row]}, weight {weight[row]}",
                f"metric '{self.name}', row {row}",
            )
