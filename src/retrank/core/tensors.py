"""What is taken for a tensor, and what may be done with the memory of one."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from retrank.core.errors import ShapeError

__all__ = ["as_tensor", "as_tensor_or_none", "can_look", "is_plain", "is_traced"]

_PLAIN: Final = (Tensor, torch.nn.Parameter)


def as_tensor(value: object, name: str, where: str) -> Tensor:
    """Take a tensor, or a NumPy array of numbers, which is copied.

    Args:
        value: what was given.
        name: what it is, for the message.
        where: to what it was given, for the message.

    Returns:
        The tensor.

    Raises:
        ShapeError: anything else, such as a list, whose dtype would have to be guessed.

    Example:
        >>> import numpy as np
        >>> from retrank.core.tensors import as_tensor
        >>> as_tensor(np.array([1.0, 2.0]), "labels", "AUC")
        tensor([1., 2.], dtype=torch.float64)
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.tensor(value)
    got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise ShapeError(f"a tensor as {name}", got, where, "convert it first, with torch.as_tensor()")


def as_tensor_or_none(value: object, name: str, where: str) -> Tensor | None:
    """Take a tensor, an array or None; see `as_tensor`.

    Args:
        value: what was given.
        name: what it is, for the message.
        where: to what it was given, for the message.

    Returns:
        The tensor, or None.

    Raises:
        ShapeError: anything else.
    """
    return None if value is None else as_tensor(value, name, where)


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
