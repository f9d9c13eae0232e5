"""`RecentLookups`: what the penalty of a step is about."""

from collections.abc import Sequence
from itertools import chain
from typing import Generic, TypeVar, final

import torch
from torch import Tensor, nn

__all__ = ["RecentLookups", "no_penalty"]

Lookup = TypeVar("Lookup")


@final
class RecentLookups(Generic[Lookup]):
    """All lookups since the last step while learning, since several features may share a table; else the last one."""

    def __init__(self) -> None:
        self._lookups: list[Lookup] = []
        self._were_read = self._learning = False

    def add(self, lookup: Lookup, *, learning: bool) -> None:
        """Remember a lookup.

        Args:
            lookup: what was looked up.
            learning: whether gradients will follow; nothing piles up where nobody asks for a penalty.
        """
        if self._were_read or not (learning and self._learning):
            self._lookups = []
        self._were_read, self._learning = False, learning
        self._lookups.append(lookup)

    def read(self) -> Sequence[Lookup]:
        """Return what was looked up; the next lookup starts anew."""
        self._were_read = True
        return self._lookups


def no_penalty(module: nn.Module) -> Tensor:
    """Return the penalty of no lookups.

    Args:
        module: has weights, or for serving only buffers.

    Returns:
        Scalar 0 in float32, where the module is.
    """
    own = chain(module._parameters.values(), module._buffers.values())  # most have one, and are asked in every step
    tensor = next((tensor for tensor in own if tensor is not None), None)
    if tensor is None:
        tensor = next(chain(module.parameters(), module.buffers()))
    return torch.zeros((), device=tensor.device)
