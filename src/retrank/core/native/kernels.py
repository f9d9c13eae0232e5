"""Run a kernel on tensors, which are checked against what it declares before their memory is touched."""

import ctypes
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from retrank.core.errors import RetrankError, ShapeError
from retrank.core.native.build import library
from retrank.core.native.declarations import Declaration, Dimension, Parameter, read_declarations
from retrank.core.native.threads import num_threads
from retrank.core.tensors import is_plain, is_traced

__all__ = ["BoundKernel", "bind", "call", "is_native", "tile_shape", "without_kernels"]

Argument: TypeAlias = "Tensor | Sequence[Tensor | None] | array[int] | array[float] | int | float | None"

_NUMBERS: Final = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double, torch.int64: ctypes.c_int64}
_TYPECODES: Final = {torch.float32: "f", torch.float64: "d", torch.int64: "q", torch.int32: "i"}
_NOWHERE: Final = array("q", [0] * 8)  # an empty tensor is no null pointer, which says that there is none
_NOWHERE_ADDRESS: Final = _NOWHERE.buffer_info()[0]
_INT64: Final = range(-(2**63), 2**63)

_are_on: Final = ContextVar("retrank.core.native", default=True)


def is_native(*tensors: Tensor) -> bool:
    """Say whether the kernels can take these tensors.

    Args:
        tensors: the floats that a kernel would read or write.

    Returns:
        Whether all are float32 in memory of the CPU, outside of `torch.compile`, `torch.func`, tracing and forward-mode
        derivatives, and the kernels are there; the first question may build them.

    Example:
        >>> import torch, retrank as rr
        >>> rr.core.native.is_native(torch.zeros(2, dtype=torch.float64))
        False
    """
    if is_traced() or not _are_on.get() or forward_ad._current_level >= 0:
        return False
    return all(tensor.dtype is torch.float32 and is_plain(tensor) for tensor in tensors) and library() is not None


def call(kernel: str, *arguments: "Argument") -> None:
    """Run a kernel with as many threads as torch uses.

    Memory reaches a kernel as a tensor or an array, never as an address, and only if its dtype, layout, device and size
    are what the kernel declares.

    Args:
        kernel: its name in the sources.
        arguments: what it takes after the number of threads: tensors and arrays, which it reads or writes in place,
            sequences of tensors, numbers, and None for a null pointer.

    Raises:
        ShapeError: an argument that does not fit the declaration; see `declarations`.
        RetrankError: there is no such kernel.

    Example:
        >>> import torch, retrank as rr
        >>> shape = torch.zeros(3, dtype=torch.int64)
        >>> if rr.core.native.library() is not None:
        ...     rr.core.native.call("tile_shape", shape)
    """
    _kernel(library(), kernel)(num_threads(), arguments)


def bind(kernel: str, **fixed: "Argument") -> "BoundKernel":
    """Check arguments of a kernel once, for many calls with the same ones.

    Args:
        kernel: its name in the sources.
        fixed: arguments by name that every call shares. Their memory must stay where it is, which the caller makes sure
            of: they are not looked at again.

    Returns:
        Takes the other arguments, in the order of the kernel.

    Raises:
        ShapeError: an argument that does not fit the declaration.
        RetrankError: there is no such kernel.
    """
    return BoundKernel(_kernel(library(), kernel), fixed)


def tile_shape() -> tuple[int, int, int]:
    """Return the rows and columns of a tile of scores, and the lanes of a register, as the kernels were built.

    Returns:
        The number of queries, of candidates (the width of a panel), and of floats in a register.
    """
    return _tile_shape(library())


@contextmanager
def without_kernels() -> Iterator[None]:
    """Use plain torch within the block, as on a machine without a compiler.

    This holds for the context of the block (see `contextvars`): other threads go on as they were, and one that is
    started within has kernels unless it runs in a copy of the context.

    Example:
        >>> import torch, retrank as rr
        >>> with rr.core.native.without_kernels():
        ...     rr.core.native.is_native(torch.zeros(2))
        False
    """
    before = _are_on.set(False)
    try:
        yield
    finally:
        _are_on.reset(before)


@lru_cache(maxsize=256)
def _kernel(kernels: ctypes.CDLL | None, name: str) -> "_Kernel":
    declaration = _declarations().get(name)
    if kernels is None or declaration is None:
        raise RetrankError("a kernel that was built", "none", f"kernel {name}", "ask `is_native` first")
    constants = {} if name == "tile_shape" else dict(zip(("ROWS", "WIDTH", "LANES"), _tile_shape(kernels), strict=True))
    return _Kernel(kernels[name], declaration, constants)


@lru_cache(maxsize=1)
def _declarations() -> dict[str, Declaration]:
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.cpp"))
    return {name: declared for source in sources for name, declared in read_declarations(source).items()}


@lru_cache(maxsize=4)
def _tile_shape(kernels: ctypes.CDLL | None) -> tuple[int, int, int]:
    shape = array("q", [0, 0, 0])
    _kernel(kernels, "tile_shape")(1, (shape,))
    rows, width, lanes = shape
    return rows, width, lanes


@final
class _Kernel:
    """A function of the library, and the checks of its arguments."""

    def __init__(self, function: Any, declaration: Declaration, constants: dict[str, int]) -> None:
        self._function, self._name = function, declaration.name
        dimensions = [dimension for parameter in declaration.parameters for dimension in parameter.shape or ()]
        literals = {dimension.name: int(dimension.name) for dimension in dimensions if dimension.name.isdigit()}
        self._constants = {**constants, **literals}
        self._parameters = declaration.parameters
        self._names = [parameter.name for parameter in declaration.parameters]
        kinds: tuple[Callable[..., Any], ...] = (self._number, self._memory, self._sequence)
        self._to_c = [kinds[parameter.pointers] for parameter in declaration.parameters]
        pointers = [ctypes.c_void_p if p.pointers else _NUMBERS[p.dtype] for p in declaration.parameters]
        function.argtypes, function.restype = [ctypes.c_int64, *pointers], None

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What the kernel takes, without the number of threads."""
        return self._parameters

    def converter(self, place: int) -> Callable[["Argument", dict[str, Any]], Any]:
        """Return what checks one argument, and turns it into what C takes."""
        return partial(self._to_c[place], self._parameters[place])

    def sizes(self, said: dict[str, Any], threads: int) -> dict[str, Any]:
        """Return what declarations may name: arguments that are numbers or arrays, and constants."""
        return {"threads": threads, **self._constants, **said}

    def run(self, threads: int, converted: Sequence[Any]) -> None:
        """Call with arguments that were converted."""
        self._function(threads, *converted)  # sequences of addresses live as long as `converted`

    def __call__(self, threads: int, arguments: tuple["Argument", ...]) -> None:
        if len(arguments) != len(self._parameters):
            raise self._error(f"{len(self._parameters)} arguments", str(len(arguments)), "its call")
        pairs = zip(self._names, arguments, strict=True)
        said = {name: argument for name, argument in pairs if isinstance(argument, int | array)}
        sizes = self.sizes(said, threads)
        converted = [
            to_c(parameter, argument, sizes)
            for to_c, parameter, argument in zip(self._to_c, self._parameters, arguments, strict=True)
        ]
        self.run(threads, converted)

    def _number(self, parameter: Parameter, argument: Any, sizes: dict[str, Any]) -> int | float:  # noqa: ARG002
        is_integer = parameter.dtype is torch.int64
        if not isinstance(argument, int if is_integer else int | float) or (is_integer and argument not in _INT64):
            raise self._error("an int64" if is_integer else "a number", repr(argument), parameter.name)
        return argument

    def _memory(self, parameter: Parameter, argument: Any, sizes: dict[str, Any]) -> int | None:
        if isinstance(argument, array):
            return self._array(parameter, argument, sizes)
        return self._tensor(parameter, argument, sizes, None)

    def _array(self, parameter: Parameter, argument: "array[Any]", sizes: dict[str, Any]) -> int:
        address, length = argument.buffer_info()
        needed = None if parameter.shape is None else math.prod(_size(d, sizes, None) for d in parameter.shape)
        if argument.typecode != _TYPECODES.get(parameter.dtype) or needed not in (None, length):
            got = f"array('{argument.typecode}') of {length}"
            raise self._error(f"an array of {needed} {parameter.dtype}", got, parameter.name)
        return address

    def _sequence(self, parameter: Parameter, argument: Any, sizes: dict[str, Any]) -> Any:
        length = None if parameter.length is None else sizes.get(parameter.length)
        if not isinstance(argument, list | tuple) or length not in (None, len(argument)):
            got = f"{len(argument)}" if isinstance(argument, list | tuple) else type(argument).__name__
            raise self._error(f"a list of {length} tensors", got, parameter.name)
        addresses = [self._tensor(parameter, tensor, sizes, place) for place, tensor in enumerate(argument)]
        return (ctypes.c_void_p * len(addresses))(*addresses)

    def _tensor(self, parameter: Parameter, tensor: Any, sizes: dict[str, Any], place: int | None) -> int | None:
        if tensor is None and parameter.is_nullable:
            return None
        fits = is_plain(tensor) and tensor.dtype is parameter.dtype and _lies(tensor, parameter.shape, sizes, place)
        if fits and ((address := tensor.data_ptr()) or tensor.numel() == 0):  # else its memory was taken away
            return address or _NOWHERE_ADDRESS
        shape = None if parameter.shape is None else tuple(_size(d, sizes, place) for d in parameter.shape)
        kind = f"{parameter.dtype} in memory of the CPU" + ("" if shape is None else f" of shape {shape}")
        where = parameter.name if place is None else f"{parameter.name}[{place}]"
        raise self._error(kind, _described(tensor), where)

    def _error(self, expected: str, got: str, where: str) -> ShapeError:
        return ShapeError(expected, got, f"kernel {self._name}, {where}", "pass what it declares")


@final
class BoundKernel:
    """A kernel some of whose arguments were checked already; see `bind`.

    Args:
        kernel: what runs.
        fixed: its arguments by name that all calls share.

    Raises:
        ShapeError: an argument that does not fit the declaration.
    """

    def __init__(self, kernel: _Kernel, fixed: dict[str, "Argument"]) -> None:
        self._kernel, self._fixed = kernel, fixed  # which keeps the memory
        said = {name: argument for name, argument in fixed.items() if isinstance(argument, int | array)}
        self._sizes = kernel.sizes(said, 1)
        places = {parameter.name: place for place, parameter in enumerate(kernel.parameters)}
        self._converted = [None] * len(places)
        for name, argument in fixed.items():
            self._converted[places[name]] = kernel.converter(places[name])(argument, self._sizes)
        self._varying = [(place, name, kernel.converter(place)) for name, place in places.items() if name not in fixed]

    def __call__(self, *varying: "Argument") -> None:
        """Run the kernel.

        Args:
            varying: the arguments that were not bound, in the order of the kernel.

        Raises:
            ShapeError: an argument that does not fit the declaration.
        """
        threads = num_threads()
        sizes, converted = self._sizes.copy(), self._converted.copy()
        sizes["threads"] = threads
        for (_, name, _), argument in zip(self._varying, varying, strict=True):
            if isinstance(argument, int | array):
                sizes[name] = argument
        for (place, _, to_c), argument in zip(self._varying, varying, strict=True):
            converted[place] = to_c(argument, sizes)
        self._kernel.run(threads, converted)


def _size(dimension: Dimension, sizes: dict[str, Any], place: int | None) -> int:
    name, entry, is_each, plus, _ = dimension
    size = sizes[name]
    if is_each:
        size = size[place]
    elif entry is not None:
        size = size[entry]
    return int(size) + plus


def _lies(tensor: Tensor, shape: tuple[Dimension, ...] | None, sizes: dict[str, Any], place: int | None) -> bool:
    """Say whether a tensor has the memory that a kernel will read or write."""
    if shape is None:
        return tensor.is_contiguous()
    needed = [_size(dimension, sizes, place) for dimension in shape]
    if shape[0].stride is None:
        return tensor.numel() == math.prod(needed) and tensor.is_contiguous()
    rows, width = needed
    if tensor.shape != (rows, width) or rows == 0 or width == 0:
        return tensor.shape == (rows, width)
    stride = sizes[shape[0].stride]
    stride = int(stride if place is None else stride[place])
    return (rows == 1 or tensor.stride(0) == stride) and (width == 1 or tensor.stride(1) == 1)


def _described(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return type(tensor).__name__
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}, strides {tensor.stride()}, {tensor.layout}, {tensor.device}"
