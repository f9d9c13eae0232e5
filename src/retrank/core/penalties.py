"""The penalties of a step: what layers add to the loss while a batch passes through them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, final

import torch
from torch import Tensor

__all__ = ["Penalties", "add_penalty", "collecting_penalties"]


@final
class Penalties:
    """What `add_penalty` added within one `collecting_penalties`."""

    def __init__(self) -> None:
        self._added: list[Callable[[], Tensor]] = []

    def total(self, device: torch.device | None = None) -> Tensor:
        """Compute the sum of the penalties, a scalar tensor.

        Args:
            device: where the zero is if there are none.
        """
        if not self._added:
            return torch.zeros((), device=device)
        return torch.stack([penalty() for penalty in self._added]).sum()


_COLLECTING: Final[ContextVar[Penalties | None]] = ContextVar("penalties", default=None)


def add_penalty(penalty: Callable[[], Tensor]) -> None:
    """Add to the regularization loss of the step that is running; outside of one, do nothing.

    `Regularized` layers have a penalty of their weights. This is for penalties of what passes through a layer, such as
    the vectors that a batch looks up, and is called in `forward`.

    Args:
        penalty: returns a scalar tensor, already scaled. It is called once the loss is computed, with gradients enabled
            if the step trains: also if the layer ran without them, as it does under reentrant gradient checkpointing.

    Example:
        >>> import torch, retrank as rr
        >>> class Small(torch.nn.Module):
        ...     def forward(self, inputs):
        ...         rr.core.add_penalty(lambda: 0.1 * inputs.square().mean())
        ...         return inputs
        >>> with rr.core.collecting_penalties() as penalties:
        ...     _ = Small()(torch.tensor([1.0, 3.0]))
        >>> penalties.total()
        tensor(0.5000)
    """
    penalties = _COLLECTING.get()
    if penalties is not None:
        penalties._added.append(penalty)


@contextmanager
def collecting_penalties() -> Iterator[Penalties]:
    """Collect what layers add to the loss of a step, as `Model.compute_losses` does.

    A layer that recomputes its forward pass in the backward pass, outside of the context, adds nothing twice. Other
    threads collect for themselves.

    Yields:
        The penalties. Their total can be read afterwards.
    """
    penalties = Penalties()
    token = _COLLECTING.set(penalties)
    try:
        yield penalties
    finally:
        _COLLECTING.reset(token)
