"""Run a kernel on tensors."""

import ctypes
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from retrank.core.native.build import library

__all__ = ["call", "is_native", "tile_shape", "without_kernels"]

Argument: TypeAlias = "Tensor | array[int] | array[float] | int | float | None"

_PLAIN: Final = (Tensor, torch.nn.Parameter)
_switch: Final = {"on": True}


def is_native(*tensors: Tensor) -> bool:
    """Say whether the kernels can take these tensors.

    Args:
        tensors: the floats that a kernel would read or write.

    Returns:
        Whether all are float32 on the CPU, outside of `torch.compile` and `torch.func`, and the kernels are there; the
        first question may build them.

    Example:
        >>> import torch, retrank as rr
        >>> rr.core.native.is_native(torch.zeros(2, dtype=torch.float64))
        False
    """
    if not _switch["on"] or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    # A subclass, such as a tensor spread over devices, need not have its numbers where it says.
    fits = all(type(tensor) in _PLAIN and tensor.dtype is torch.float32 and tensor.is_cpu for tensor in tensors)
    return fits and library() is not None


def call(function: str, *arguments: "Argument") -> None:
    """Run a kernel with as many threads as torch uses.

    Args:
        function: its name in the sources.
        arguments: what it takes after the number of threads: contiguous tensors or arrays, which it reads or writes in
            place, int64, float32, and None for a null pointer. Its sizes are the caller's to check.

    Example:
        >>> import torch, retrank as rr
        >>> shape = torch.zeros(3, dtype=torch.int64)
        >>> if rr.core.native.library() is not None:
        ...     rr.core.native.call("tile_shape", shape)
    """
    kernels = library()
    assert kernels is not None
    getattr(kernels, function)(ctypes.c_int64(torch.get_num_threads()), *map(_to_c, arguments))


def tile_shape() -> tuple[int, int, int]:
    """Return the rows and columns of a tile of scores, and the lanes of a register, as the kernels were built.

    Returns:
        The number of queries, of candidates (the width of a panel), and of floats in a register.
    """
    shape = torch.zeros(3, dtype=torch.int64)
    call("tile_shape", shape)
    rows, width, lanes = shape.tolist()
    return rows, width, lanes


@contextmanager
def without_kernels() -> Iterator[None]:
    """Use plain torch within the block, as on a machine without a compiler.

    Example:
        >>> import torch, retrank as rr
        >>> with rr.core.native.without_kernels():
        ...     rr.core.native.is_native(torch.zeros(2))
        False
    """
    before, _switch["on"] = _switch["on"], False
    try:
        yield
    finally:
        _switch["on"] = before


def _to_c(argument: "Argument") -> Any:
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        assert argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, array):
        return ctypes.c_void_p(argument.buffer_info()[0])
    return None if argument is None else ctypes.c_float(argument)
