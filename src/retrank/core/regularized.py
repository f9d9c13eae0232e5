"""`Regularized`: layers whose weights have a penalty."""

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Regularized"]


@runtime_checkable
class Regularized(Protocol):
    """A module whose weights have a penalty, which `Model` adds to the loss of every step.

    A module with an attribute `l2` is skipped while that is 0: most layers have no penalty, and asking costs time.
    For a penalty of what passes through a layer, see `add_penalty`.

    Example:
        >>> import torch, retrank as rr
        >>> class Shrunk(torch.nn.Linear):
        ...     def regularization(self): return 0.01 * self.weight.square().sum()
        >>> isinstance(Shrunk(2, 2), rr.core.Regularized)
        True
    """

    def regularization(self) -> Tensor:
        """Return the penalty of the weights as they are, a scalar tensor, already scaled."""
