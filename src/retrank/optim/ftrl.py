"""`FTRL`: Adagrad's steps with weights that an L1 penalty sets to exactly zero."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

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
        settings = {"lr": self.lr, "l1": self.l1, "l2": self.l2, "beta": self.beta}
        return _FTRL(
            require_parameters(named_parameters, self), {**settings, "initial_accumulator": self.initial_accumulator}
        )


class _FTRL(RowSparseOptimizer):
    def _new_state(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        one_a_row = (*parameter.shape[:1], *[1] * (parameter.dim() - 1))
        return {
            "accumulator": torch.full_like(parameter, group["initial_accumulator"]),
            "linear": torch.zeros_like(parameter),
            "last_lr": parameter.new_full(one_a_row, math.inf),  # before the first step of a row nothing pulls it
        }

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["lr"]:
            _move(parameter, gradient, state, group)

    def _update_rows(
        self, parameter: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if group["lr"]:
            weights = parameter.index_select(0, rows)
            chosen = {name: tensor.index_select(0, rows) for name, tensor in state.items()}
            _move(weights, gradient, chosen, group)
            parameter.index_copy_(0, rows, weights)
            for name, tensor in chosen.items():
                state[name].index_copy_(0, rows, tensor)


def _move(weights: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """Take a step in place, in the weights and their state."""
    accumulator, linear, last_lr = state["accumulator"], state["linear"], state["last_lr"]
    before = (accumulator.sqrt() + group["beta"]) / last_lr
    accumulator.addcmul_(gradient, gradient)
    after = (accumulator.sqrt() + group["beta"]) / group["lr"]
    linear.add_(gradient).addcmul_(after - before, weights, value=-1)
    last_lr.fill_(group["lr"])
    weights.copy_(F.softshrink(linear, group["l1"]).neg_().div_(after.add_(2 * group["l2"])))
