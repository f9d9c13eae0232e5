"""What every task provides, and what it requires of its metrics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged

__all__ = ["BatchMetric", "CorpusMetric", "LossMetric", "Task", "TaskMetric", "listed"]


class _AnyMetric(Protocol):
    name: str
    num_rows: int

    def compute(self) -> Tensor | dict[str, Tensor]: ...

    def reset(self) -> None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class TaskMetric(_AnyMetric, Protocol):
    """A metric of one prediction and one label per row, as those of `rr.metrics` are.

    Example:
        >>> import retrank as rr
        >>> metric: rr.tasks.TaskMetric = rr.metrics.RootMeanSquaredError()
    """

    def update(self, predictions: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Count a batch of `(batch,)` predictions, labels and weights."""

    def compute(self) -> Tensor:
        """Return the value over all rows since the last reset, a scalar."""


class CorpusMetric(_AnyMetric, Protocol):
    """A metric of where positives rank among all candidates.

    Example:
        >>> import retrank as rr
        >>> metric: rr.tasks.CorpusMetric = rr.metrics.FullCorpusTopK()
    """

    def update(
        self,
        queries: Tensor,
        candidates: Tensor,
        positives: Tensor,
        *,
        exclude: Jagged | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Count the positives, as candidate rows, of a batch of queries."""

    def compute(self) -> dict[str, Tensor]:
        """Return the values over all queries since the last reset, scalars by name."""


class BatchMetric(_AnyMetric, Protocol):
    """A metric of where positives rank among the columns of their batch.

    Example:
        >>> import retrank as rr
        >>> metric: rr.tasks.BatchMetric = rr.metrics.BatchTopK()
    """

    def update(self, scores: Tensor, positives: Tensor, weight: Tensor | None = None) -> None:
        """Count the `(batch,)` positives, as columns of `(batch, columns)` scores; -inf is a removed column."""

    def compute(self) -> dict[str, Tensor]:
        """Return the values over all rows since the last reset, scalars by name."""


class LossMetric(_AnyMetric, Protocol):
    """A metric of the losses that a task returns.

    Example:
        >>> import retrank as rr
        >>> metric: rr.tasks.LossMetric = rr.metrics.LossMean()
    """

    def update(self, loss: Tensor, num_rows: int) -> None:
        """Count the scalar loss of a batch of so many rows."""

    def compute(self) -> Tensor:
        """Return the value over all batches since the last reset, a scalar."""


_MetricT = TypeVar("_MetricT", bound=_AnyMetric)


def listed(metrics: Sequence[_MetricT], name: str) -> tuple[_MetricT, ...]:
    """Return the metrics of a list, and refuse a metric that is not in a list.

    Args:
        metrics: any number of them.
        name: of the argument, for the message.

    Raises:
        ConfigError: no sequence.
    """
    if not isinstance(metrics, Sequence):
        raise ConfigError("a sequence of metrics", f"a {type(metrics).__name__}", f"{name}=...", f"pass {name}=[...]")
    return tuple(metrics)


class Task(Configurable, nn.Module, ABC, Generic[_MetricT]):
    """A loss and the metrics that go with it.

    Args:
        metrics: of the task's own kind, each with a name of its own.
        others: metrics of other kinds, which are reported, reset and saved in the same way.

    Raises:
        ConfigError: two metrics of one name, or a metric that is not in a list.
    """

    def __init__(self, metrics: Sequence[_MetricT] = (), *, others: Sequence[BatchMetric | LossMetric] = ()) -> None:
        super().__init__()
        self.metrics: tuple[_MetricT, ...] = listed(metrics, "metrics")
        others = listed(others, "loss_metrics")
        self._all_metrics: tuple[_MetricT | BatchMetric | LossMetric, ...] = (*self.metrics, *others)
        names = [metric.name for metric in self._all_metrics]
        if len(set(names)) < len(names):
            raise ConfigError(
                "metrics with distinct names",
                str(names),
                f"{type(self).__name__}(metrics=...)",
                "give one of them a `name`",
            )

    def __setattr__(self, name: str, value: Any) -> None:
        # Metrics assigned later would be fed, but neither reported nor reset.
        if name.endswith("metrics") and name in vars(self):
            where = f"{type(self).__name__}.{name} = ..."
            raise ConfigError("metrics when the task is built", "an assignment", where, f"pass {name}=[...] to it")
        super().__setattr__(name, value)

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss of a batch, a scalar; each task defines its arguments."""

    def results(self) -> dict[str, Tensor]:
        """Return the metrics' values by name; a metric that has seen no row since the last reset is left out."""
        results: dict[str, Tensor] = {}
        for metric in self._all_metrics:
            if metric.num_rows:
                value = metric.compute()
                results.update(value if isinstance(value, dict) else {metric.name: value})
        return results

    def larger_is_better(self) -> dict[str, bool]:
        """Return which results are better the larger and which the smaller they are, as far as their metrics say so.

        Returns:
            By name of the result; True where a larger value is better.
        """
        known: dict[str, bool] = {}
        for metric in self._all_metrics:
            better: bool | None = getattr(metric, "larger_is_better", None)  # a metric of one's own need not say so
            if better is not None:
                known |= dict.fromkeys(getattr(metric, "result_names", (metric.name,)), better)
        return known

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in self._all_metrics:
            metric.reset()

    def metrics_state_dict(self) -> dict[str, Tensor]:
        """Return the state of the metrics, for a checkpoint within an epoch.

        Returns:
            Tensors by `"<metric>.<entry>"`.
        """
        return {
            f"{metric.name}.{entry}": value
            for metric in self._all_metrics
            for entry, value in metric.state_dict().items()
        }

    def load_metrics_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the metrics from what `metrics_state_dict` returned.

        Args:
            state: of a task with the same metrics.

        Raises:
            ConfigError: a metric's entries are missing.
        """
        for metric in self._all_metrics:
            entries = {entry: f"{metric.name}.{entry}" for entry in metric.state_dict()}
            missing = sorted(set(entries.values()) - set(state))
            if missing:
                raise ConfigError(str(missing), "no such entries", "load_metrics_state_dict")
            metric.load_state_dict({entry: state[full] for entry, full in entries.items()})
