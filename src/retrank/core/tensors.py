"""`is_plain` and `can_look`: what may be done with the memory of a tensor."""

from typing import Final

import torch
from torch import Tensor

__all__ = ["can_look", "is_plain", "is_traced"]

_PLAIN: Final = (Tensor, torch.nn.Parameter)


def is_plain(tensor: Tensor) -> bool:
    """Say whether a tensor's numbers are in memory of the CPU, as its strides say.

    A subclass, such as a tensor spread over devices, need not have them there; other layouts and nested tensors have
    several pieces; a view may be lazily negated or conjugated, or be a zero that has no memory at all.

    Args:
        tensor: any.

    Returns:
        Whether its memory can be read as it is.
    """
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not (tensor.is_neg() or tensor.is_conj() or tensor.is_nested or tensor._is_zerotensor())
    )


def is_traced() -> bool:
    """Say whether torch records what is computed instead of, or besides, computing it once.

    Returns:
        Whether this is within `torch.compile` or `torch.export`, a transform of `torch.func`, or `torch.jit.trace`.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
    )


def can_look(tensor: Tensor) -> bool:
    """Say whether the numbers of a tensor can be looked at now, without making a GPU wait or a trace wrong.

    Args:
        tensor: any.

    Returns:
        Whether a check of its numbers is possible and cheap.
    """
    return tensor.is_cpu and not is_traced() and is_plain(tensor)
