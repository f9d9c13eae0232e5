"""`KernelStep`: the updates of one step of an optimizer, for a kernel that does all of them at once."""

from array import array
from typing import Final, Literal, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from retrank.core.native import call, is_native
from retrank.ops.rounding import draw_seed

__all__ = ["KernelStep", "Rule"]

_RULES: Final = {"adagrad": 0, "rowwise_adagrad": 1, "adam": 2}
_SETTINGS: Final = 5


@final
class Rule(NamedTuple):
    """How the kernel is to update a parameter."""

    name: Literal["adagrad", "rowwise_adagrad", "adam"]
    settings: tuple[float, ...]
    """At most five, in the order of the kernel."""
    state: tuple[Tensor, ...]
    """One tensor or two, which it changes."""


@final
class KernelStep:
    """Collects updates; `run` does them."""

    def __init__(self) -> None:
        self._table, self._settings = array("q"), array("f")
        self._count = 0
        self._changed: list[Tensor] = []
        self._kept: list[Tensor] = []  # what the table only points to

    @staticmethod
    def takes(parameter: Tensor, gradient: Tensor) -> bool:
        """Say whether the kernel can update a parameter.

        Args:
            parameter: its value.
            gradient: dense, or row-sparse.

        Returns:
            Whether both are float32 on the CPU; of a row-sparse gradient the parameter may be bfloat16.
        """
        values = gradient._values() if gradient.is_sparse else gradient
        is_half = gradient.is_sparse and parameter.dtype == torch.bfloat16 and parameter.device == values.device
        floats = [values] if is_half else [parameter, values]
        return parameter.is_contiguous() and values.numel() > 0 and is_native(*floats)

    def add(self, parameter: Tensor, gradient: Tensor, rule: Rule) -> None:
        """Add an update.

        Args:
            parameter: one that the kernel takes.
            gradient: dense and of its shape, or row-sparse.
            rule: what to do.
        """
        if gradient.is_sparse:
            rows, values = gradient._indices()[0].contiguous(), gradient._values()
            values = values if values.stride(1) == 1 else values.contiguous()
            shape = (values.stride(0), len(rows), *parameter.shape)
            self._kept += (rows, values)
        else:
            rows, values = None, gradient.contiguous()
            shape = (0, 1, 1, parameter.numel())
            self._kept.append(values)
        states = [state.data_ptr() for state in rule.state]
        is_half = parameter.dtype == torch.bfloat16
        sources = (0 if rows is None else rows.data_ptr(), values.data_ptr())
        targets = (*states, *[0] * (2 - len(states)), parameter.data_ptr(), is_half, draw_seed() if is_half else 0)
        self._table.extend((_RULES[rule.name], *sources, *shape, *targets))
        self._settings.extend((*rule.settings, *[0.0] * (_SETTINGS - len(rule.settings))))
        self._count += 1
        self._changed += (parameter, *rule.state)

    def run(self) -> None:
        """Do all updates, with as many threads as torch uses."""
        if self._count:
            call("optimizer_step", self._table, self._count, self._settings)
            increment_version(self._changed)
