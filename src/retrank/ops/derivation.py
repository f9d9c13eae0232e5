"""`derive_by_torch`: gradients of what is computed again in plain torch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["derive_by_torch"]


def derive_by_torch(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    gradient: Tensor,
    wanted: Sequence[bool],
    *,
    again: bool = True,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of a function, by default with a graph of their own, which kernels do not make.

    Args:
        function: what was computed, in plain torch.
        inputs: its arguments, as autograd saved them.
        gradient: of what it returns.
        wanted: for each input, whether its gradient is.
        again: whether the gradients will be derived in their turn.

    Returns:
        For each input its gradient, or None if it is not wanted.
    """
    needed = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted and tensor is not None]
    found = iter(torch.autograd.grad(function(*inputs), needed, gradient, create_graph=again))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
