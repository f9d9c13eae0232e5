"""How weights move along a gradient: the rules that the kernel of `optimizer_step` knows, and what each of them is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

from torch import Tensor

__all__ = ["AdagradRule", "AdamRule", "RowwiseAdagradRule", "Rule", "Slot"]


@final
class Slot(NamedTuple):
    """A tensor that an optimizer keeps for a parameter."""

    name: str
    per: Literal["number", "row", "parameter"]
    """What it has a number for: its shape is that of the parameter, `(rows, 1, ...)`, or `()`."""
    start: float
    """The numbers before the first step, and those of rows that a table gains later."""


class Rule(ABC):
    """A way to move weights: a value that holds settings. The state of a parameter is a tensor for each of `slots`.

    A rule works row by row, or on what it is given as a whole. So the rows that a row-sparse gradient names are moved
    as if they were all there is.
    """

    slots: tuple[Slot, ...]
    counts_steps: ClassVar[bool] = False
    """Whether the state also holds the number of steps, as an int named `step`."""
    kernel: ClassVar[int | None] = None
    """The number of the rule in `optimizer_step.cpp`."""
    kernel_takes_dense: ClassVar[bool] = True

    def for_parameter(self, state: Mapping[str, Any], *, is_sparse: bool) -> "Rule":  # noqa: ARG002
        """Return the rule of one parameter, by default this one.

        Args:
            state: of the parameter, empty before its first step.
            is_sparse: whether its gradient is row-sparse.
        """
        return self

    def numbers(self, step: int, *, is_sparse: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Return the five settings of the kernel, in its order.

        Args:
            step: the number of this step, from 1.
            is_sparse: whether the gradient names rows.
        """
        return ()

    @abstractmethod
    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:
        """Move weights and their state in place.

        Args:
            weights: float32 or float64, all of a parameter or some of its rows.
            gradient: of that shape and dtype; must stay as it is.
            state: a tensor for each slot, of all or of the same rows.
            step: the number of this step, from 1.
            is_sparse: whether these are the rows of a row-sparse gradient.
        """


@final
@dataclass(frozen=True)
class AdagradRule(Rule):
    """a ← a + g², w ← w - lr · g / (√a + eps), where g includes weight_decay · w.

    Args:
        lr: learning rate.
        eps: outside of the root.
        weight_decay: of the weights themselves.
        slots: for a.
    """

    kernel = 0

    lr: float
    eps: float
    weight_decay: float
    slots: tuple[Slot, ...]

    def numbers(self, step: int, *, is_sparse: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Return the settings for the kernel; see `Rule`."""
        return self.lr, self.eps, self.weight_decay, 0.0, 0.0

    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:  # noqa: ARG002
        """Move weights and their state in place; see `Rule`."""
        if self.weight_decay:
            gradient = gradient.add(weights, alpha=self.weight_decay)
        accumulator = state[0].addcmul_(gradient, gradient)
        weights.addcdiv_(gradient, accumulator.sqrt().add_(self.eps), value=-self.lr)


@final
@dataclass(frozen=True)
class RowwiseAdagradRule(Rule):
    """a ← a + mean(g²), one a for a row of a table, w ← w - lr · g / (√a + eps).

    A parameter whose first gradient is dense has one a for each number, and follows another rule.

    Args:
        lr: learning rate.
        eps: outside of the root.
        slots: for a.
        dense: that other rule.
    """

    kernel = 1
    kernel_takes_dense = False

    lr: float
    eps: float
    slots: tuple[Slot, ...]
    dense: AdagradRule

    def for_parameter(self, state: Mapping[str, Any], *, is_sparse: bool) -> Rule:
        """Return the rule of one parameter; see `Rule`."""
        accumulator = state.get("accumulator")
        by_row = is_sparse if accumulator is None else getattr(accumulator, "shape", ())[1:] == (1,)
        return self if by_row else self.dense

    def numbers(self, step: int, *, is_sparse: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Return the settings for the kernel; see `Rule`."""
        return self.lr, self.eps, 0.0, 0.0, 0.0

    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:  # noqa: ARG002
        """Move weights and their state in place; see `Rule`."""
        accumulator = state[0].add_(gradient.square().sum(dim=1, keepdim=True) / max(gradient.shape[1], 1))
        weights.addcdiv_(gradient, accumulator.sqrt().add_(self.eps), value=-self.lr)


@final
@dataclass(frozen=True)
class AdamRule(Rule):
    """m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g², w ← (1 - lr · weight_decay) w - rate · m / (√v + eps).

    The rate is lr with the correction of both biases. Adam adds eps to the corrected root, its form for rows to the
    root as it is.

    Args:
        lr: learning rate.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled.
        slots: for m and v.
    """

    kernel = 2
    counts_steps = True

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    slots: tuple[Slot, ...] = (Slot("mean", "number", 0.0), Slot("square", "number", 0.0))

    def numbers(self, step: int, *, is_sparse: bool) -> tuple[float, ...]:
        """Return the settings for the kernel; see `Rule`."""
        beta1, beta2 = self.betas
        correction = math.sqrt(1 - beta2**step)
        rate = self.lr * correction / (1 - beta1**step)
        eps = self.eps if is_sparse else self.eps * correction
        return rate, 1 - beta1, 1 - beta2, eps, 1 - self.lr * self.weight_decay

    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:
        """Move weights and their state in place; see `Rule`."""
        rate, new1, new2, eps, keep = self.numbers(step, is_sparse=is_sparse)
        mean = state[0].lerp_(gradient, new1)
        square = state[1].mul_(self.betas[1]).addcmul_(gradient, gradient, value=new2)
        if self.weight_decay:
            weights.mul_(keep)
        weights.addcdiv_(mean, square.sqrt().add_(eps), value=-rate)
