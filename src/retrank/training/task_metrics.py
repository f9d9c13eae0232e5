"""The metrics of all tasks inside a module, wherever they are."""

from typing import Any

from torch import Tensor, nn

from retrank.core.errors import ConfigError
from retrank.tasks.task import Task

__all__ = ["larger_is_better", "load_metric_state", "metric_results", "metric_state", "reset_metrics"]


def reset_metrics(model: nn.Module) -> None:
    """Reset the metrics of all tasks.

    Args:
        model: the module that contains the tasks.
    """
    for task in _tasks(model).values():
        task.reset()


def metric_results(model: nn.Module) -> dict[str, float]:
    """Compute the metrics.

    Args:
        model: the module that contains the tasks.

    Returns:
        Value by name. A name that several tasks use is preceded by the task's place, e.g. `rating_task.auc`.
    """
    results = {path: task.results() for path, task in _tasks(model).items()}
    names = [name for values in results.values() for name in values]
    return {
        name if names.count(name) == 1 else f"{path}.{name}": float(value)
        for path, values in results.items()
        for name, value in values.items()
    }


def larger_is_better(model: nn.Module) -> dict[str, bool]:
    """Say which numbers of an epoch are better the larger and which the smaller they are.

    Args:
        model: the module that contains the tasks.

    Returns:
        Whether a larger value is better, by the names of the losses and of `metric_results`, as far as it is known.
    """
    known = dict.fromkeys(("loss", "regularization_loss", "total_loss"), False)
    several: set[str] = set()  # names about which tasks do not agree
    for path, task in _tasks(model).items():
        for name, larger in task.larger_is_better().items():
            several |= {name} if known.get(name, larger) != larger else set()
            known |= {name: larger, f"{path}.{name}": larger}
    return {name: larger for name, larger in known.items() if name not in several}


def metric_state(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return what the metrics have seen so far.

    Args:
        model: the module that contains the tasks.

    Returns:
        The task's place to its state.
    """
    return {path: task.metrics_state_dict() for path, task in _tasks(model).items()}


def load_metric_state(model: nn.Module, state: dict[str, dict[str, Tensor]]) -> None:
    """Restore what `metric_state` returned.

    Args:
        model: the module that contains the tasks.
        state: the task's place to its state.

    Raises:
        ConfigError: the model has other tasks.
    """
    tasks = _tasks(model)
    if tasks.keys() != state.keys():
        raise ConfigError(f"the tasks {sorted(state)} of the checkpoint", str(sorted(tasks)), type(model).__name__)
    for path, task in tasks.items():
        task.load_metrics_state_dict(state[path])


def _tasks(model: nn.Module) -> dict[str, Task[Any]]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Task)}
