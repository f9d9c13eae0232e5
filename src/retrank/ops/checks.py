"""The checks that every operation makes of its tensors before it chooses an implementation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from retrank.core.errors import ShapeError

__all__ = ["described", "has_plain_layout", "require_floats", "require_integers"]

_PLAIN = (Tensor, torch.nn.Parameter)


def require_floats(operation: str, tensors: Sequence[Tensor], names: Sequence[str]) -> None:
    """Require dense floats of one dtype on one device; to be asked first, since some layouts have no shape.

    Under autocast, which gives them one dtype itself, dtypes may differ. A subclass of tensor is taken at its word:
    torch's own operations know what it is.

    Args:
        operation: its name, for the message.
        tensors: at least one.
        names: of the tensors, for the message.

    Raises:
        ShapeError: integers, complex numbers, a sparse or otherwise special layout, or tensors that differ.
    """
    first, kind = tensors[0], tensors[0].device.type
    has_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    for tensor, name in zip(tensors, names, strict=True):
        is_alike = (tensor.dtype is first.dtype or has_autocast) and tensor.device == first.device
        if is_alike and tensor.is_floating_point() and has_plain_layout(tensor):
            continue
        raise ShapeError(
            "dense floats, all of one dtype on one device"
            + ("" if tensor is first else f": {names[0]} is {described(first)}"),
            described(tensor),
            f"{operation}, {name}",
            "convert it",
        )


def require_integers(operation: str, tensor: Tensor, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    """Require int64 of a shape on a device.

    Args:
        operation: its name, for the message.
        tensor: any.
        name: of the tensor, for the message.
        shape: what it should have.
        device: where it should be.

    Raises:
        ShapeError: it has another dtype, layout, shape or device.
    """
    is_dense = has_plain_layout(tensor) and tensor.dtype is torch.int64 and tensor.device == device
    if not is_dense or tensor.shape != shape:
        raise ShapeError(
            f"int64 of shape {shape} on {device}", described(tensor), f"{operation}, {name}", "pass one per row"
        )


def described(tensor: Tensor) -> str:
    """Describe a tensor in an error.

    Args:
        tensor: any.

    Returns:
        Its dtype, shape and device, and its layout if that is special.
    """
    if tensor.is_nested:
        return f"nested {tensor.dtype} on {tensor.device}"
    layout = "" if tensor.layout is torch.strided else f" with layout {tensor.layout}"
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}{layout}"


def has_plain_layout(tensor: Tensor) -> bool:
    """Say whether a tensor is neither sparse nor nested nor otherwise special; of a subclass nothing is known.

    Args:
        tensor: any.

    Returns:
        Whether it has a shape, and numbers in memory.
    """
    return type(tensor) not in _PLAIN or (tensor.layout is torch.strided and not tensor.is_nested)
