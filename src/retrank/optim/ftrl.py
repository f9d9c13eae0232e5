"""`FTRL`: Adagrad's steps with weights that an L1 penalty sets to exactly zero."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.ops.update_rules import Rule, Slot
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_parameters, require_rates

__all__ = ["FTRL"]


@final
@dataclass(frozen=True)
class FTRL(OptimizerSpec):
    """Follow the regularized leader, proximal: after step t, w minimizes Σ g·w + ½ Σ σ (w - wₛ)² + l1 · |w| + l2 · w².

    The sums go over the steps s <= t, which started from wₛ; Σ σ = (√a + beta) / lr, where a ← a + g². Without
    penalties this is Adagrad. The penalties count once and not in every step, and give exact zeros.

    A row-sparse gradient updates its rows alone; a row feels the penalties from when it is first read.

    Args:
        lr: learning rate; a scheduler may change it, also to 0, which makes a step do nothing.
        initial_accumulator: a before the first step.
        l1: strength of the penalty that makes weights zero.
        l2: strength of the penalty that makes weights small.
        beta: makes the first steps smaller.

    Raises:
        ConfigError: a negative or infinite setting, or initial_accumulator and beta both 0.

    Example:
        >>> import torch, retrank as rr
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> optimizer = rr.optim.FTRL(lr=1.0, l1=2.0, initial_accumulator=0.0, beta=1.0).build([("w", w)])
        >>> w.grad = torch.tensor([-3.0, 0.5])
        >>> optimizer.step()
        >>> w.data
        tensor([1.2500, 0.0000])

    Source: McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, where w₁ is 0; then equal to Keras'
    `Ftrl` with its default power and no shrinkage. Keras forgets a start other than 0 in the first step, and a falling
    learning rate shrinks its weights; here both are kept.
    """

    lr: float = 1e-3
    _: KW_ONLY
    initial_accumulator: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        require_rates(self, "lr", "initial_accumulator", "l1", "l2", "beta")
        require(self.initial_accumulator + self.beta > 0, "initial_accumulator > 0 or beta > 0", self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        return _FTRL(require_parameters(named_parameters, self), asdict(self))


class _FTRL(RowSparseOptimizer):
    settings = ("lr", "initial_accumulator", "l1", "l2", "beta")

    @staticmethod
    @lru_cache(maxsize=64)
    def rule(lr: float, initial_accumulator: float, l1: float, l2: float, beta: float) -> "_FTRLRule":
        FTRL(
            lr, initial_accumulator=initial_accumulator, l1=l1, l2=l2, beta=beta
        )  # refuses what schedulers must not set
        slots = (
            Slot("accumulator", "number", initial_accumulator),
            Slot("linear", "number", 0.0),
            Slot("last_lr", "row", math.inf),  # before the first step of a row nothing pulls it
        )
        return _FTRLRule(lr, l1, l2, beta, slots)


@final
@dataclass(frozen=True)
class _FTRLRule(Rule):
    lr: float
    l1: float
    l2: float
    beta: float
    slots: tuple[Slot, ...]

    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:  # noqa: ARG002
        if not self.lr:
            return
        accumulator, linear, last_lr = state
        before = (accumulator.sqrt() + self.beta) / last_lr
        accumulator.addcmul_(gradient, gradient)
        after = (accumulator.sqrt() + self.beta) / self.lr
        linear.add_(gradient).addcmul_(after - before, weights, value=-1)
        last_lr.fill_(self.lr)
        weights.copy_(F.softshrink(linear, self.l1).neg_().div_(after.add_(2 * self.l2)))
