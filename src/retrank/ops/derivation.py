"""`derive_by_torch`: gradients that will be derived in their turn, which kernels do not make."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["derive_by_torch"]


def derive_by_torch(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of a function, with a graph of their own.

    Args:
        function: what was computed, in plain torch.
        inputs: its arguments, as autograd saved them.
        gradient: of what it returns.
        wanted: for each input, whether its gradient is.

    Returns:
        For each input its gradient, or None if it is not wanted.
    """
    needed = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(function(*inputs), needed, gradient, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
