"""`MultiTaskRanking`: several labels of a row, learned together."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.schema import UNKNOWN_ID, ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.concatenate import Concatenate
from retrank.layers.mlp import MLP
from retrank.models.checks import require_embeddings, row_weights
from retrank.models.number_columns import number_columns, number_schemas
from retrank.tasks.ranking import Ranking as RankingTask
from retrank.training.mode import evaluating
from retrank.training.model import Model

__all__ = ["MultiTaskRanking"]


@final
class MultiTaskRanking(Configurable, Model):
    """Features shared by all tasks, experts that separate the tasks, and a tower with one output for each task.

    The embeddings, in the order of the feature names, and the dense features after them meet in the feature
    interaction. Its output passes through the experts: an `MLP` gives all towers the same vector (shared bottom);
    `rr.layers.MMoE`, `CGC` and `PLE` give each its own.

    A label that is NaN is missing: the row counts in the losses and metrics of its other tasks only. The loss of
    a task is the mean (or with `reduction="sum"` the sum) over the rows that have its label, 0 in a batch without any;
    the loss of the model is the weighted sum. Metrics are named after their task, such as `like.auc`.

    Args:
        embeddings: feature ids to vectors.
        tasks: name to loss and metrics; each is copied.
        experts: from the interaction's output to one tensor, or to a tensor for each task by name; an `MLP` [256, 128]
            that ends in a ReLU by default.
        tower_layers: width of the hidden layers of each task's tower.
        feature_interaction: from the list of vectors to one; `Concatenate()` by default.
        bottom_stack: from the dense features to a vector; as they are by default.
        task_weights: task to the weight of its loss, 1 by default; `"uncertainty"` learns a variance σ² for each task
            and minimises Σ loss / σ² + log σ, where a squared error is halved.
        dense_features: columns of numbers: names of those with one number per row, or schemas.
        labels: task to the column with its label; the task's name by default.
        weight: the column with the weight of each row in all tasks, in evaluation too; None for equal weights.

    Raises:
        ConfigError: no tasks, an unknown task in `labels` or `task_weights`, or a negative weight.
        ShapeError: the experts give no vector to a task.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)})
        >>> tasks = {"click": rr.tasks.Ranking(), "stars": rr.tasks.Ranking(torch.nn.MSELoss())}
        >>> model = rr.models.MultiTaskRanking(tables, tasks, experts=rr.layers.MMoE(None, [16, 8], tasks=list(tasks)))
        >>> batch = rr.Batch({
        ...     "user": torch.tensor([2, 3]), "movie": torch.tensor([5, 5]),
        ...     "click": torch.tensor([1.0, 0.0]), "stars": torch.tensor([4.0, torch.nan])})
        >>> model(batch).shape, model.compute_loss(batch).isfinite().item()
        (torch.Size([2, 2]), True)

    Source: Caruana, Multitask Learning, 1997; the experts' papers; Kendall et al., Multi-Task Learning Using
    Uncertainty to Weigh Losses, CVPR 2018. Differs: a batch without labels of a task does not move its variance.
    """

    log_variances: nn.Parameter | None
    """`(tasks,)` log σ², with `task_weights="uncertainty"`."""

    def __init__(
        self,
        embeddings: Embeddings,
        tasks: Mapping[str, RankingTask],
        *,
        experts: nn.Module | None = None,
        tower_layers: Sequence[int] = (64,),
        feature_interaction: nn.Module | None = None,
        bottom_stack: nn.Module | None = None,
        task_weights: Mapping[str, float] | Literal["uncertainty"] | None = None,
        dense_features: Sequence[str | ColumnSchema] = (),
        labels: Mapping[str, str] | None = None,
        weight: str | None = None,
    ) -> None:
        super().__init__()
        require_embeddings(embeddings, "models.MultiTaskRanking(embeddings=...)")
        fixed = {} if task_weights is None or isinstance(task_weights, str) else dict(task_weights)
        columns = number_schemas(dense_features)
        self._check(tasks, task_weights, {*fixed, *(labels or {})}, fixed, bottom_stack is not None and not columns)
        self.embeddings, self.weight = embeddings, weight
        self.dense_features = tuple(column.name for column in columns)
        self.bottom_stack = bottom_stack
        self.feature_interaction = Concatenate() if feature_interaction is None else feature_interaction
        self.experts = MLP(None, [256, 128], final_activation=nn.ReLU()) if experts is None else experts
        self.task_names = tuple(tasks)
        self.labels = {name: (labels or {}).get(name, name) for name in tasks}
        self.tasks = nn.ModuleList(_named(task, name) for name, task in tasks.items())
        self.towers = nn.ModuleList(MLP(None, [*tower_layers, 1]) for _ in tasks)
        self.task_weights = tuple(float(fixed.get(name, 1.0)) for name in tasks)
        learned = nn.Parameter(torch.zeros(len(tasks))) if task_weights == "uncertainty" else None
        self.register_parameter("log_variances", learned)
        self._materialize(columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a prediction needs: ids, then dense features."""
        return (*self.embeddings.features, *self.dense_features)

    def forward(self, batch: Batch) -> Tensor:
        """Predict all labels.

        Args:
            batch: has the ids and the dense features.

        Returns:
            `(batch, tasks)` logits, or whatever each task's loss compares with labels, in the order of `task_names`.
        """
        vectors = self.embeddings(batch)
        inputs = [vectors[name] for name in sorted(vectors)]
        if self.dense_features:
            numbers = torch.cat(number_columns(batch, self.dense_features), dim=1)
            inputs.append(numbers if self.bottom_stack is None else self.bottom_stack(numbers))
        shared: Tensor | Mapping[str, Tensor] = self.experts(self.feature_interaction(inputs))
        own = dict.fromkeys(self.task_names, shared) if isinstance(shared, Tensor) else shared
        if set(own) != set(self.task_names):
            raise ShapeError(f"a vector for each of {list(self.task_names)}", str(list(own)), "experts")
        return torch.cat([tower(own[name]) for name, tower in zip(self.task_names, self.towers, strict=True)], dim=1)

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:  # noqa: ARG002 (the same for both)
        """Compare the predictions with the labels, and update the metrics.

        Args:
            batch: has the ids, the dense features, the labels (NaN where missing) and, if named, the weight.
            training: whether this loss will update the weights.

        Returns:
            Scalar: the weighted sum of the tasks' mean losses.
        """
        predictions = self(batch).unbind(dim=1)
        total: Tensor = predictions[0].new_zeros((), dtype=torch.float32)
        for place, (name, prediction) in enumerate(zip(self.task_names, predictions, strict=True)):
            labels = batch[self.labels[name]]
            known = ~labels.isnan()
            loss = self._task_loss(place, prediction, labels, known, batch)
            if self.log_variances is None:
                total = total + self.task_weights[place] * loss
            else:
                log_variance = self.log_variances[place]
                total = total + self._precision(place) * loss + known.any() * log_variance / 2
        return total

    def _task_loss(self, place: int, prediction: Tensor, labels: Tensor, known: Tensor, batch: Batch) -> Tensor:
        given = row_weights(batch, self.weight, "models.MultiTaskRanking")
        weight = known.float() if given is None else known * given
        loss: Tensor = self.tasks[place](
            labels=labels.masked_fill(~known, 0), predictions=prediction, weight=weight.to(torch.float32)
        )
        task = self.tasks[place]
        assert isinstance(task, RankingTask)
        if task.reduction == "sum":
            return loss
        return loss * (len(labels) / known.sum().clamp(min=1))  # the task divides by all rows

    def _precision(self, place: int) -> Tensor:
        assert self.log_variances is not None
        task = self.tasks[place]
        assert isinstance(task, RankingTask)
        # Halved as in the negative log-likelihood of a Gaussian; that of a tempered softmax has no such factor.
        factor = 0.5 if isinstance(task.loss, nn.MSELoss) else 1.0
        precision: Tensor = factor * torch.exp(-self.log_variances[place])
        return precision

    def _materialize(self, columns: list[ColumnSchema]) -> None:
        """Give every lazily sized layer its width by a forward pass of two rows of zeros."""
        rows: dict[str, Any] = {name: torch.full((2,), UNKNOWN_ID) for name in self.embeddings.features}
        rows |= {column.name: torch.zeros(2, column.width) for column in columns}
        with evaluating(self), torch.no_grad():
            self(Batch(rows))

    @staticmethod
    def _check(
        tasks: Mapping[str, RankingTask],
        task_weights: object,
        named: set[str],
        fixed: Mapping[str, float],
        idle_bottom_stack: bool,
    ) -> None:
        problem = None
        if not tasks:
            problem = ("one task or more", "none")
        elif named - set(tasks):
            problem = (f"some of the tasks {list(tasks)}", str(sorted(named - set(tasks))))
        elif isinstance(task_weights, str) and task_weights != "uncertainty":
            problem = ("a weight for each task, or 'uncertainty'", repr(task_weights))
        elif not all(value >= 0 for value in fixed.values()):
            problem = ("weights of at least 0", str(fixed))
        elif idle_bottom_stack:
            problem = ("dense features, for a bottom stack", "none")
        if problem is not None:
            raise ConfigError(*problem, "MultiTaskRanking")


def _named(task: RankingTask, name: str) -> RankingTask:
    task = copy.deepcopy(task)
    for metric in (*task.metrics, *task.loss_metrics):
        metric.name = f"{name}.{metric.name}"
    return task
