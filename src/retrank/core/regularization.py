"""The protocol of layers that add a penalty to the loss."""

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Regularized"]


@runtime_checkable
class Regularized(Protocol):
    """A module with a penalty, which `Model` adds to the loss of every step.

    One with an attribute `l2` is not asked while that is 0: most layers have no penalty, and asking costs time.

    Example:
        >>> import torch, retrank as rr
        >>> class Shrunk(torch.nn.Linear):
        ...     def regularization(self): return 0.01 * self.weight.square().sum()
        >>> isinstance(Shrunk(2, 2), rr.core.Regularized)
        True
    """

    def regularization(self) -> Tensor:
        """Return the penalty as a scalar tensor, already scaled."""
