"""The state of an optimizer: what it must look like, how it starts, and how it grows with its parameter."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.ops.update_rules import Slot

__all__ = ["STATE_DTYPES", "grown_state", "new_state", "next_step", "require_state", "shape_of"]

STATE_DTYPES: Final = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,  # a sum of small squares would soon stop moving in half precision
    torch.float16: torch.float32,
}
"""The dtype of the state of a parameter of each dtype; others cannot be learned."""
_MOST_STEPS: Final = 2**53
_FIX: Final = "load a state that was saved for this parameter, or build a new optimizer"


def shape_of(slot: Slot, shape: torch.Size) -> tuple[int, ...]:
    """Return the shape of a state tensor.

    Args:
        slot: which tensor.
        shape: of the parameter.
    """
    if slot.per == "number":
        return shape
    return (*shape[:1], *[1] * (len(shape) - 1)) if slot.per == "row" else ()


def next_step(state: Mapping[str, Any], name: str) -> int:
    """Return the number of the step that a parameter takes next, from 1.

    Args:
        state: without entries before the first step, later with a `step`.
        name: of the parameter, for the message.

    Raises:
        DataError: its state has no whole number of steps.
    """
    step = state.get("step", None if state else 0)
    if type(step) is not int or not 0 <= step < _MOST_STEPS:
        raise DataError("a whole number of steps, 0 or more, as 'step'", _said(step), f"parameter '{name}'", _FIX)
    return step + 1


def require_state(
    parameter: Tensor, slots: Sequence[Slot], state: Mapping[str, Any], where: str, *, dtype: torch.dtype | None = None
) -> int:
    """Check the tensors of a state for what they hold, wherever they lie.

    Args:
        parameter: whose state it is.
        slots: what the state holds.
        state: has a tensor for each slot.
        where: the parameter, for the message.
        dtype: of the tensors; by default as in `STATE_DTYPES`.

    Returns:
        How many rows of the parameter have state: all, or those from before it grew.

    Raises:
        ShapeError: a tensor of another dtype, with more rows than the parameter, or rows of another shape.
    """
    num_rows = found = len(parameter) if parameter.dim() else 0
    dtype = dtype or STATE_DTYPES.get(parameter.dtype)
    for place, slot in enumerate(slots):
        tensor, shape = state.get(slot.name), shape_of(slot, parameter.shape)
        if (
            not isinstance(tensor, Tensor)
            or tensor.layout != torch.strided
            or tensor.dtype != dtype
            or tensor.dim() != len(shape)
            or tensor.shape[1:] != shape[1:]
        ):
            raise _refusal(parameter, slot, dtype, tensor, where)
        if shape:
            found = len(tensor) if place == 0 else found
            if len(tensor) != found or found > num_rows:
                raise _refusal(parameter, slot, dtype, tensor, where)
    return found


def new_state(parameter: Tensor, slots: Sequence[Slot]) -> list[Tensor]:
    """Make the state of a parameter that has taken no step.

    Args:
        parameter: whose state it is.
        slots: what the state holds.

    Returns:
        A tensor for each slot.
    """
    with torch.inference_mode(mode=False):  # or no later step could change it
        return [_new(parameter, slot) for slot in slots]


def grown_state(
    parameter: Tensor, slots: Sequence[Slot], state: Mapping[str, Any], where: str, *, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Add the rows that a parameter has gained since its last step; they start as in a new optimizer.

    Args:
        parameter: whose state it is.
        slots: what the state holds.
        state: has a tensor for each slot; it stays as it is.
        where: the parameter, for the message.
        dtype: of the tensors; by default as in `STATE_DTYPES`.

    Returns:
        A tensor for each slot.

    Raises:
        ShapeError: a state that no growth explains: of another dtype, device or layout, with more rows than the
            parameter, or rows of another shape.
    """
    num_new = (len(parameter) if parameter.dim() else 0) - require_state(parameter, slots, state, where, dtype=dtype)
    for slot in slots:
        tensor = state[slot.name]
        if tensor.device != parameter.device or not tensor.is_contiguous():
            raise _refusal(parameter, slot, tensor.dtype, tensor, where)
    with torch.inference_mode(mode=False):
        return [
            state[slot.name] if slot.per == "parameter" else _grown(state[slot.name], num_new, slot.start)
            for slot in slots
        ]


def _grown(tensor: Tensor, num_new: int, start: float) -> Tensor:
    return torch.cat([tensor, tensor.new_full((num_new, *tensor.shape[1:]), start)]) if num_new else tensor


def _new(parameter: Tensor, slot: Slot) -> Tensor:
    dtype = STATE_DTYPES[parameter.dtype]
    if slot.per == "number":  # the like of a parameter that is spread over devices is spread as it is
        return torch.full_like(parameter, slot.start, dtype=dtype, memory_format=torch.contiguous_format)
    return parameter.new_full(shape_of(slot, parameter.shape), slot.start, dtype=dtype)


def _refusal(parameter: Tensor, slot: Slot, dtype: torch.dtype | None, got: Any, where: str) -> ShapeError:
    shape = tuple(shape_of(slot, parameter.shape))
    return ShapeError(
        f"a contiguous {dtype} of shape {shape} on {parameter.device} as '{slot.name}'",
        _said(got),
        where,
        _FIX,
    )


def _said(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)[:80]
    is_contiguous = value.layout == torch.strided and value.is_contiguous()
    form = "" if is_contiguous else "non-contiguous " if value.layout == torch.strided else f"{value.layout} "
    return f"a {form}{value.dtype} of shape {tuple(value.shape)} on {value.device}"
