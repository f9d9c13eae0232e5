"""What the kernels declare to take: read from the C++ sources, so that Python cannot think otherwise.

The type of a parameter says what it is: a size, a number, a tensor (`const float *x`), or a sequence of tensors
(`const float *const *x`). A comment beside it says how much memory the kernel reads or writes there:

    const float *rows /* (count, width) */            a contiguous tensor of that many elements
    const float *rows /* (count: stride, width) */    rows that are contiguous, and lie `stride` elements apart
    const float *bias /* (width) or null */           may be None
    const float *const *parts /* n x (count, width[]) */   n tensors, the i-th of them width[i] wide
    float *last /* (count + 1, width[-1]) */          sizes may be an entry of an array, or one more than a size

The sizes are other parameters, `threads`, or the constants ROWS, WIDTH and LANES of scores.h.
"""

import re
from typing import Final, NamedTuple, final

import torch

from retrank.core.errors import RetrankError

__all__ = ["Declaration", "Dimension", "Parameter", "read_declarations"]

_EXTERN: Final = 'extern "C" {'
_FUNCTION: Final = re.compile(r"^void (\w+)\((.*?)\) \{", re.MULTILINE | re.DOTALL)
_PARAMETER: Final = re.compile(r"(?:const )?(\w+) ((?:\*const )?\**)(\w*)(?: /\*(.*)\*/)?")
_SEPARATOR: Final = re.compile(r",(?![^/]*\*/)")  # not within a comment
_SHAPE: Final = re.compile(r"(?:(\w+) x )?\(([^()]*)\)( or null)?")
_DIMENSION: Final = re.compile(r"(\w+)(?:\[(-?\d*)\])?(?: \+ (\d+))?(?:: (\w+)(\[\])?)?")
_DTYPES: Final = {
    "float": torch.float32,
    "double": torch.float64,
    "int64_t": torch.int64,
    "int32_t": torch.int32,
    "uint16_t": torch.bfloat16,
    "uint8_t": torch.uint8,
    "bool": torch.bool,
}


@final
class Dimension(NamedTuple):
    """A size of a tensor."""

    name: str
    """A parameter, a constant, or a literal."""
    entry: int | None
    """Which entry of the parameter, if that is an array."""
    is_each: bool
    """Whether tensor i of a sequence has entry i of the parameter."""
    plus: int
    stride: str | None
    """What says how many elements the rows lie apart; None if contiguous."""


@final
class Parameter(NamedTuple):
    """A parameter of a kernel."""

    name: str
    dtype: torch.dtype
    pointers: int
    """0 for a number, 1 for a tensor, 2 for a sequence of tensors."""
    shape: tuple[Dimension, ...] | None
    """How much memory is read or written, None if that is not said."""
    length: str | None
    """How many tensors a sequence has."""
    is_nullable: bool


@final
class Declaration(NamedTuple):
    """A kernel; its first parameter, the number of threads, is left out."""

    name: str
    parameters: tuple[Parameter, ...]


def read_declarations(source: str) -> dict[str, Declaration]:
    """Read the kernels of a C++ file.

    Args:
        source: its text.

    Returns:
        Name to declaration, of the functions in its last part, which C can call.

    Raises:
        RetrankError: a parameter that is not written as described above.
    """
    _, _, exported = source.partition(_EXTERN)
    declared = {}
    for name, text in _FUNCTION.findall(exported):
        _, *parameters = _SEPARATOR.split(" ".join(text.split()))
        declared[name] = Declaration(name, tuple(_parameter(name, part.strip()) for part in parameters))
    return declared


def _parameter(kernel: str, text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if match is None or match[1] not in _DTYPES:
        raise _unreadable(kernel, text)
    kind, stars, name, comment = match.groups()
    pointers = stars.count("*")
    if comment is None:
        return Parameter(name, _DTYPES[kind], pointers, None, None, is_nullable=True)
    shape = _SHAPE.fullmatch(comment.strip())
    if shape is None or (pointers == 2) != (shape[1] is not None):
        raise _unreadable(kernel, text)
    dimensions = tuple(_dimension(kernel, part.strip()) for part in shape[2].split(","))
    return Parameter(name, _DTYPES[kind], pointers, dimensions, shape[1], is_nullable=shape[3] is not None)


def _dimension(kernel: str, text: str) -> Dimension:
    match = _DIMENSION.fullmatch(text)
    if match is None:
        raise _unreadable(kernel, text)
    name, entry, plus, stride, _ = match.groups()
    return Dimension(name, int(entry) if entry else None, entry == "", int(plus or 0), stride)


def _unreadable(kernel: str, text: str) -> RetrankError:
    return RetrankError(
        "a declaration as described in core/native/declarations.py", text, f"kernel {kernel}", "mend it"
    )
