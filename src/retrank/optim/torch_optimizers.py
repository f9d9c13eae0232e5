"""torch's own optimizers, which look at gradients and state before their step: torch's fused kernels do not."""

import math
from abc import ABC
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.ops.optimizer_state import grown_state, require_state
from retrank.ops.optimizer_step import Update
from retrank.ops.rounding import HALF_PRECISION
from retrank.ops.row_sparse import require_row_sparse, require_rows
from retrank.ops.update_rules import Slot
from retrank.optim.checked import CheckedOptimizer, named_groups
from retrank.optim.saved_state import LOADING

__all__ = ["CheckedAdam", "CheckedAdamW", "CheckedSGD"]

_FOR_TABLES: Final = "use LazyAdam, Adagrad or RowwiseAdagrad for tables, with Composite if only for them"
_LOAD: Final = "load that of the same optimizer"
_MOMENTS: Final = (Slot("exp_avg", "number", 0.0), Slot("exp_avg_sq", "number", 0.0))


class _TorchOptimizer(CheckedOptimizer, ABC):
    """The step is torch's. Before it, gradients are looked at, and the state of parameters that have grown grows."""

    slots: ClassVar[tuple[Slot, ...]]
    counts_steps: ClassVar[bool] = True
    _shapes: Sequence[torch.Size | None] = ()

    def __init__(self, parameters: Any, **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self._guard = self.register_step_pre_hook(_look)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._shapes = ()  # the state may be from before a parameter grew
        if "_guard" not in self.__dict__:  # torch copies an optimizer without its hooks
            self._guard = self.register_step_pre_hook(_look)

    def updates(self) -> list[Update]:
        """Refuse what torch cannot do; see `CheckedOptimizer`."""
        shapes, are_dense = [], True
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                shape = None if gradient is None else parameter.shape
                are_dense = are_dense and (gradient is None or (gradient.shape == shape and not gradient.is_sparse))
                shapes.append(shape)
        if shapes != self._shapes or not are_dense:  # a step like the last one needs no further look
            for group, names in named_groups(self):
                for name, parameter in zip(names, group["params"], strict=True):
                    if parameter.grad is not None:
                        self._check_step(group, parameter, parameter.grad, f"optimizer step, parameter '{name}'")
            self._shapes = shapes
        return []

    def check_state(self, parameter: Tensor, group: Mapping[str, Any], state: Mapping[str, Any], name: str) -> None:
        """Check what is about to be loaded for a parameter; see `CheckedOptimizer`."""
        where = f"{LOADING}, parameter '{name}'"
        for setting in self.settings:
            numbers = group[setting] if isinstance(group[setting], list | tuple) else [group[setting]]
            if not all(isinstance(number, Real) and 0 <= float(number) < math.inf for number in numbers):
                raise ConfigError(f"a finite {setting} >= 0", repr(group[setting]), where, _LOAD)
        if not state:
            return
        expected = {slot.name for slot in self.slots} | ({"step"} if self.counts_steps else set())
        if state.keys() != expected:
            raise ConfigError(f"a state of {sorted(expected)}", str(sorted(map(str, state))), where, _LOAD)
        if self.counts_steps and not _is_count(state["step"]):
            raise DataError("a number of steps >= 0", str(state["step"])[:80], where, _LOAD)
        require_state(parameter, self._slots_in(state), state, where, dtype=parameter.dtype)

    def _check_step(self, group: Mapping[str, Any], parameter: Tensor, gradient: Tensor, where: str) -> None:
        if gradient.is_sparse:
            self._check_row_sparse(group, parameter, gradient, where)
        if gradient.shape != parameter.shape:
            raise ShapeError(
                f"a gradient of shape {tuple(parameter.shape)}",
                str(tuple(gradient.shape)),
                where,
                "clear the gradients, then compute them for the parameters as they are now",
            )
        if state := self.state.get(parameter):
            slots = self._slots_in(state)
            if any(getattr(state.get(slot.name), "shape", None) != parameter.shape for slot in slots):
                tensors = grown_state(parameter, slots, state, where, dtype=parameter.dtype)
                state.update({slot.name: tensor for slot, tensor in zip(slots, tensors, strict=True)})

    def _slots_in(self, state: Mapping[str, Any]) -> Sequence[Slot]:
        return self.slots if state else ()

    def _check_row_sparse(self, group: Mapping[str, Any], parameter: Tensor, gradient: Tensor, where: str) -> None:  # noqa: ARG002
        raise ConfigError("dense gradients", "the row-sparse gradient of an embedding table", where, _FOR_TABLES)


@final
class CheckedAdam(_TorchOptimizer, torch.optim.Adam):
    """`torch.optim.Adam`, checked."""

    settings, slots = ("lr", "betas", "eps", "weight_decay"), _MOMENTS


@final
class CheckedAdamW(_TorchOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW`, checked."""

    settings, slots = ("lr", "betas", "eps", "weight_decay"), _MOMENTS


@final
class CheckedSGD(_TorchOptimizer, torch.optim.SGD):
    """`torch.optim.SGD`, checked."""

    settings, slots = ("lr", "momentum", "weight_decay"), (Slot("momentum_buffer", "number", 0.0),)
    counts_steps = False

    def _slots_in(self, state: Mapping[str, Any]) -> Sequence[Slot]:
        return [slot for slot in self.slots if state.get(slot.name) is not None]

    def _check_row_sparse(self, group: Mapping[str, Any], parameter: Tensor, gradient: Tensor, where: str) -> None:
        if group["momentum"] or group["weight_decay"]:
            super()._check_row_sparse(group, parameter, gradient, where)
        if parameter.dtype in HALF_PRECISION:
            got = "the row-sparse gradient of a table in half precision"
            raise ConfigError("tables in float32", got, where, _FOR_TABLES)
        require_row_sparse(gradient, where)
        require_rows(gradient, where)


def _look(optimizer: _TorchOptimizer, *_: Any) -> None:
    optimizer.updates()


def _is_count(step: Any) -> bool:
    is_number = isinstance(step, Real) or (isinstance(step, Tensor) and step.numel() == 1)
    return is_number and 0 <= float(step) < math.inf
