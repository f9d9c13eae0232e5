"""`optimizer_step`: a step of many parameters at once, all of them or none."""

from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from retrank.core.errors import ConfigError, ShapeError
from retrank.core.native import call, is_native
from retrank.ops.optimizer_state import STATE_DTYPES, grown_state, new_state, next_step, shape_of
from retrank.ops.rounding import HALF_PRECISION, draw_seed, round_randomly
from retrank.ops.row_sparse import merge_rows, require_row_sparse, require_rows
from retrank.ops.update_rules import Rule

__all__ = ["Update", "optimizer_step"]

_COLUMNS: Final = 13  # of the kernel's table
_STRIDED: Final = torch.strided
_MOST_ROWS: Final = 2**32  # the kernel sorts rows and places that share 64 bits
_PLAIN: Final = (Tensor, torch.nn.Parameter)


@final
class Update(NamedTuple):
    """What is to be done to a parameter."""

    parameter: Tensor
    gradient: Tensor
    """Dense, or row-sparse."""
    rule: Rule
    state: dict[str, Any]
    """Empty before the first step. It is filled, and its tensors are changed in place."""
    name: str
    """For messages."""


@final
class _Planned(NamedTuple):
    """An update that has been checked, for plain torch."""

    update: Update
    state: list[Tensor]
    step: int


def optimizer_step(updates: Sequence[Update]) -> None:
    """Update parameters by their rules, in place.

    Everything is checked before anything changes, so that a step is taken by all parameters or by none. State that is
    missing is made, and state that is from before a table grew gets the rows of the table. Parameters in half precision
    are updated in float32 and rounded up or down at random, see `round_randomly`. What is float32 on the CPU goes
    through one kernel, with as many threads as torch uses, and row-sparse gradients of bfloat16 tables do too.

    Args:
        updates: one for each parameter.

    Raises:
        ConfigError: a parameter that is not of real numbers.
        ShapeError: a gradient or a state of another shape, dtype, layout or device than its parameter needs.
        DataError: a row-sparse gradient that names a row which the table does not have. On a GPU, where looking would
            mean waiting, torch's own device-side assertion stops the program instead.

    Example:
        >>> import torch
        >>> from retrank.ops.optimizer_step import Update, optimizer_step
        >>> from retrank.ops.update_rules import AdagradRule, Slot
        >>> rule = AdagradRule(lr=0.5, eps=1e-7, weight_decay=0.0, slots=(Slot("accumulator", "number", 0.0),))
        >>> weights, state = torch.tensor([1.0, 2.0]), {}
        >>> optimizer_step([Update(weights, torch.tensor([3.0, 0.0]), rule, state, "weights")])
        >>> weights, state
        (tensor([0.5000, 2.0000]), {'accumulator': tensor([9., 0.])})
    """
    kernel, rest, new_states, counts = _Kernel(), [], [], []
    for update in updates:
        _, _, rule, state, name = update
        step = 0
        if rule.counts_steps:
            step = next_step(state, name)
            counts.append((state, step))
        if kernel.add(update, [state.get(slot.name) for slot in rule.slots], step):
            continue
        tensors = _checked_state(update)
        if any(state.get(slot.name) is not tensor for slot, tensor in zip(rule.slots, tensors, strict=True)):
            new_states.append((state, {slot.name: tensor for slot, tensor in zip(rule.slots, tensors, strict=True)}))
            if kernel.add(update, tensors, step):
                continue
        if update.gradient.is_sparse:
            require_rows(update.gradient, _where(name))
        rest.append(_Planned(update, tensors, step))
    kernel.run()  # looks at the rows of all gradients before it begins
    for state, made in new_states:
        state.update(made)
    for state, step in counts:
        state["step"] = step
    for plan in rest:
        _move(plan)


@final
class _Kernel:
    """The updates that the kernel takes: collected by `add`, done by `run`."""

    def __init__(self) -> None:
        self._is_there = is_native()
        self._table, self._settings = array("q"), array("f")
        self._updates: list[Update] = []
        self._changed: list[Tensor] = []
        self._copies: list[Tensor] = []  # the table only points to them

    def add(self, update: Update, state: Sequence[Any], step: int) -> bool:
        """Add an update, if everything it needs is there and just what the kernel expects."""
        parameter, gradient, rule, _, _ = update
        dtype, is_sparse, shape = parameter.dtype, gradient.is_sparse, parameter.shape
        is_half = is_sparse and dtype is torch.bfloat16
        if not (
            self._is_there
            and rule.kernel is not None
            and (is_sparse or rule.kernel_takes_dense)
            and (is_half or dtype is torch.float32)
            and _is_readable(parameter)
            and parameter.is_contiguous()
            and gradient.shape == shape
        ):
            return False
        values = gradient._values() if is_sparse else gradient
        # A gradient may be shown negated, as imaginary parts are; memory holds it as it was.
        if values.dtype is not torch.float32 or not _is_readable(values) or values.is_neg() or not values.numel():
            return False
        if is_sparse:
            rows, entries = gradient._indices(), values.shape
            if len(entries) != 2 or rows.shape != (1, entries[0]) or max(entries[0], shape[0]) >= _MOST_ROWS:
                return False
            if not rows.is_contiguous():
                rows = self._copy(rows)
            if values.stride(1) != 1:
                values = self._copy(values)
            source = (rows.data_ptr(), values.data_ptr(), values.stride(0), entries[0], *shape)
        else:
            if not values.is_contiguous():
                values = self._copy(values)
            source = (0, values.data_ptr(), 0, 1, 1, values.numel())
        for tensor, slot in zip(state, rule.slots, strict=True):
            if not (
                _is_readable(tensor)
                and tensor.dtype is torch.float32
                and tensor.is_contiguous()
                and tensor.shape == (shape if slot.per == "number" else shape_of(slot, shape))
            ):
                return False
        first, second = state if len(state) == 2 else (*state, None)
        targets = (first.data_ptr(), 0 if second is None else second.data_ptr(), parameter.data_ptr())
        self._table.extend((rule.kernel, *source, *targets, is_half, draw_seed() if is_half else 0, 0))
        self._settings.extend(rule.numbers(step, is_sparse=is_sparse))
        self._updates.append(update)
        self._changed += (parameter, *state)
        return True

    def _copy(self, tensor: Tensor) -> Tensor:
        self._copies.append(tensor.contiguous())
        return self._copies[-1]

    def run(self) -> None:
        """Do all updates, with as many threads as torch uses; none of them if one names a row that is not there."""
        if not self._updates:
            return
        call("optimizer_step", self._table, len(self._updates), self._settings)
        refused = self._table[_COLUMNS - 1 :: _COLUMNS]
        if any(refused):
            update = self._updates[refused.index(1)]
            if update.gradient.is_sparse:
                require_rows(update.gradient, _where(update.name))
            raise _refused_parameter(update)
        increment_version(self._changed)


def _is_readable(tensor: Any) -> bool:
    """Say whether this is a tensor whose numbers lie where it says: not on a GPU, nor spread over devices."""
    return type(tensor) in _PLAIN and tensor.is_cpu and tensor.layout is _STRIDED


def _checked_state(update: Update) -> list[Tensor]:
    """Return the state to step with, made or grown where it must be, if everything fits."""
    parameter, gradient, rule, state, name = update
    dtype, where = STATE_DTYPES.get(parameter.dtype), _where(name)
    if dtype is None or parameter.layout is not _STRIDED or not _has_own_numbers(parameter):
        raise _refused_parameter(update)
    if (
        gradient.shape != parameter.shape
        or gradient.device != parameter.device
        or gradient.dtype not in (dtype, parameter.dtype)
        or gradient.layout not in (torch.strided, torch.sparse_coo)
    ):
        raise _refused_gradient(update)
    if gradient.is_sparse:
        require_row_sparse(gradient, where)
    return grown_state(parameter, rule.slots, state, where) if state else new_state(parameter, rule.slots)


def _move(plan: _Planned) -> None:
    """Do in plain torch what the kernel does not."""
    (parameter, gradient, rule, _, _), state = plan.update, plan.state
    is_half = parameter.dtype in HALF_PRECISION
    if not parameter.numel():
        return  # and the mean of no numbers would be NaN
    if not gradient.is_sparse:
        weights = parameter.float() if is_half else parameter
        rule.move(weights, gradient.to(weights.dtype), state, plan.step, is_sparse=False)
        if is_half:
            places = torch.arange(weights.numel(), device=weights.device)
            rounded = round_randomly(weights.reshape(-1, 1), places, parameter.dtype, seed=draw_seed())
            parameter.copy_(rounded.view_as(parameter))
        return
    rows, values = merge_rows(gradient)
    weights = parameter.index_select(0, rows)
    weights = weights.float() if is_half else weights
    by_row = [slot.per != "parameter" for slot in rule.slots]
    chosen = [tensor.index_select(0, rows) if some else tensor for tensor, some in zip(state, by_row, strict=True)]
    rule.move(weights, values.to(weights.dtype), chosen, plan.step, is_sparse=True)
    if is_half:
        weights = round_randomly(weights, rows, parameter.dtype, seed=draw_seed())
    parameter.index_copy_(0, rows, weights)
    for tensor, part in zip(state, chosen, strict=True):
        if part is not tensor:
            tensor.index_copy_(0, rows, part)


def _has_own_numbers(tensor: Tensor) -> bool:
    """Say whether the numbers of a tensor are not one number shown several times."""
    return all(stride or size < 2 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _where(name: str) -> str:
    return f"optimizer step, parameter '{name}'"


def _refused_parameter(update: Update) -> ConfigError:
    parameter = update.parameter
    return ConfigError(
        "real floating-point numbers in memory of their own",
        f"{parameter.dtype}, {parameter.layout}, of shape {tuple(parameter.shape)}",
        _where(update.name),
        "make it a parameter of its own, contiguous",
    )


def _refused_gradient(update: Update) -> ShapeError:
    parameter, gradient = update.parameter, update.gradient
    return ShapeError(
        f"a gradient of {parameter.dtype}, shape {tuple(parameter.shape)} on {parameter.device}",
        f"{gradient.dtype}, shape {tuple(gradient.shape)} on {gradient.device}, {gradient.layout}",
        _where(update.name),
        "clear the gradients, then compute them for the parameters as they are now",
    )
