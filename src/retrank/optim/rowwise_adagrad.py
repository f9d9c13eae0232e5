"""`RowwiseAdagrad`: Adagrad with one number of state a table row."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import torch
from torch import Tensor

from retrank.ops.optimizer_step import Rule
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_parameters, require_rates

__all__ = ["RowwiseAdagrad"]


@final
@dataclass(frozen=True)
class RowwiseAdagrad(OptimizerSpec):
    """Adagrad for large tables: a ← a + mean(g²), one a for a whole row, w ← w - lr · g / (√a + eps).

    A table whose first gradient is row-sparse has one accumulator a row, `dim` times less state than `Adagrad`.
    A parameter whose first gradient is dense has one a weight, which is plain Adagrad.

    Args:
        lr: learning rate; a scheduler may change it.
        initial_accumulator: a before the first step.
        eps: outside of the root.

    Raises:
        ConfigError: a negative or infinite setting, or eps = 0.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.EmbeddingTable(1_000, 64)
        >>> optimizer = rr.optim.RowwiseAdagrad(lr=0.05).build(table.named_parameters())
        >>> table(torch.tensor([7])).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[table.weight]["accumulator"].shape
        torch.Size([1000, 1])

    Source: Naumov et al., Deep Learning Recommendation Model, 2019; `EXACT_ROWWISE_ADAGRAD` of FBGEMM, which starts
    from a = 0.
    """

    lr: float = 0.01
    _: KW_ONLY
    initial_accumulator: float = 0.1
    eps: float = 1e-7

    def __post_init__(self) -> None:
        require_rates(self, "lr", "initial_accumulator", "eps")
        require(self.eps > 0, "eps > 0", self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        settings = {"lr": self.lr, "eps": self.eps, "initial_accumulator": self.initial_accumulator}
        return _RowwiseAdagrad(require_parameters(named_parameters, self), settings)


class _RowwiseAdagrad(RowSparseOptimizer):
    def _rule(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule | None:
        accumulator, settings = state["accumulator"], (group["lr"], group["eps"])
        has_one_a_row = accumulator.shape[1:] == (1,)  # not if the first gradient was dense
        if gradient.is_sparse:
            return Rule("rowwise_adagrad", settings, (accumulator,)) if has_one_a_row else None
        return Rule("adagrad", settings, (accumulator,)) if accumulator.shape == gradient.shape else None

    def _new_state(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        shape = (len(parameter), 1) if gradient.is_sparse else parameter.shape
        return {"accumulator": parameter.new_full(shape, group["initial_accumulator"])}

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        accumulator = state["accumulator"]
        accumulator += _squares(gradient, accumulator)
        parameter.addcdiv_(gradient, accumulator.sqrt().add_(group["eps"]), value=-group["lr"])

    def _update_rows(
        self, parameter: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        accumulator = state["accumulator"].index_select(0, rows)
        accumulator += _squares(gradient, accumulator)
        state["accumulator"].index_copy_(0, rows, accumulator)
        parameter.index_add_(0, rows, gradient.div_(accumulator.sqrt_().add_(group["eps"])), alpha=-group["lr"])


def _squares(gradient: Tensor, accumulator: Tensor) -> Tensor:
    squares = gradient.square()
    return squares if squares.shape == accumulator.shape else squares.mean(dim=1, keepdim=True)
