"""`TaskScore`: one score from the predictions of several tasks."""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.models.multitask import MultiTaskRanking
from retrank.training.model import Model

__all__ = ["TaskScore"]


@final
class TaskScore(Configurable, Model):
    """Scores a pair by one task of a model, or a weighted sum of several, so that a `rr.Recommender` can order by it.

    The sum is over predictions as the metrics of a task see them: the probability of a click, the expected stars.
    The weights are a product decision and not learned; the model itself does not change, and another `TaskScore` of
    it gives another order. Trained and evaluated, it trains and evaluates that model.

    Args:
        model: predicts several tasks.
        score: the name of the task that orders, or task to weight; tasks that are not named do not count. A negative
            weight orders against a task, such as the probability of a complaint.

    Raises:
        ConfigError: a task that the model does not have, or no finite weight other than zero.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)})
        >>> tasks = {"click": rr.tasks.Ranking(), "stars": rr.tasks.Ranking(torch.nn.MSELoss())}
        >>> model = rr.models.MultiTaskRanking(tables, tasks)
        >>> pairs = rr.Batch({"user": torch.tensor([2, 2, 2]), "movie": torch.tensor([5, 6, 7])})
        >>> rr.models.TaskScore(model, "stars")(pairs).equal(model(pairs)[:, 1])
        True
        >>> rr.models.TaskScore(model, {"click": 1.0, "stars": 0.2})(pairs).shape
        torch.Size([3])

    Source: the weighted combination of Zhao et al., Recommending What Video to Watch Next: A Multitask Ranking System,
    RecSys 2019.
    """

    def __init__(self, model: MultiTaskRanking, score: str | Mapping[str, float]) -> None:
        super().__init__()
        given = {score: 1.0} if isinstance(score, str) else dict(score)
        unknown = [name for name in given if name not in model.task_names]
        if unknown:
            raise self._error(f"some of the tasks {list(model.task_names)}", str(unknown))
        if not any(given.values()) or not all(math.isfinite(weight) for weight in given.values()):
            raise self._error("finite weights, one of them not zero", str(given))
        self.model = model
        self.weights = {name: float(weight) for name, weight in given.items() if weight != 0}

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a score needs: the model's."""
        return self.model.features

    def forward(self, batch: Batch) -> Tensor:
        """Score pairs.

        Args:
            batch: has the model's features.

        Returns:
            `(batch,)` scores, bigger is better.
        """
        predictions = dict(zip(self.model.task_names, self.model(batch).unbind(dim=1), strict=True))
        tasks = dict(zip(self.model.task_names, self.model.tasks, strict=True))
        scores: list[Tensor] = [
            weight * tasks[name].get_submodule("prediction_transform")(predictions[name])
            for name, weight in self.weights.items()
        ]
        return torch.stack(scores).sum(dim=0)

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:
        """Return the loss of the model; see `MultiTaskRanking.compute_loss`."""
        return self.model.compute_loss(batch, training=training)

    def _error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(expected, got, "score of TaskScore")
