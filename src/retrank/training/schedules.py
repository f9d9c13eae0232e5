"""Learning-rate schedules, counted in steps."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from retrank.core.errors import ConfigError

__all__ = ["linear_decay"]


def linear_decay(num_steps: int) -> Callable[[Optimizer], LRScheduler]:
    """Lower every learning rate in a straight line to zero.

    Args:
        num_steps: after how many steps it is zero, and stays so; usually `epochs * len(batches)`.

    Returns:
        The `schedule` of `Model.fit`.

    Raises:
        ConfigError: no steps.

    Example:
        >>> import torch, retrank as rr
        >>> optimizer = rr.optim.SGD(lr=0.4).build(torch.nn.Linear(1, 1).named_parameters())
        >>> schedule = rr.training.linear_decay(4)(optimizer)
        >>> rates = []
        >>> for _ in range(5):
        ...     rates.append(round(schedule.get_last_lr()[0], 3))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.4, 0.3, 0.2, 0.1, 0.0]
    """
    if num_steps < 1:
        raise ConfigError("num_steps >= 1", str(num_steps), "linear_decay", "count the steps of all epochs")

    def schedule(optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / num_steps))

    schedule.__qualname__ = f"linear_decay({num_steps})"  # checkpoints compare it
    return schedule
