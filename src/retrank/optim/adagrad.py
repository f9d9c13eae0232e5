"""`Adagrad`: a learning rate for every weight, falling with the gradients it has seen."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import torch
from torch import Tensor

from retrank.ops.optimizer_step import Rule
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_parameters, require_rates

__all__ = ["Adagrad"]


@final
@dataclass(frozen=True)
class Adagrad(OptimizerSpec):
    """Adagrad: a ← a + g², w ← w - lr · g / (√a + eps).

    A row-sparse gradient updates its rows alone, with the same result as the dense gradient: elsewhere g is 0.

    Args:
        lr: learning rate; a scheduler may change it.
        initial_accumulator: a before the first step.
        eps: outside of the root, as in torch.
        weight_decay: adds weight_decay · w to g (L2); of a row-sparse gradient, only in the rows it names.

    Raises:
        ConfigError: a negative or infinite setting, or eps = 0.

    Example:
        >>> import torch, retrank as rr
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = rr.optim.Adagrad(lr=0.5, initial_accumulator=0.0).build([("w", w)])
        >>> w.grad = torch.tensor([3.0])
        >>> optimizer.step()
        >>> w.data
        tensor([0.5000])

    Source: Duchi et al., Adaptive Subgradient Methods, 2011. Equal to `torch.optim.Adagrad`; defaults are those of
    TensorFlow, where eps stands inside of the root.
    """

    lr: float = 0.01
    _: KW_ONLY
    initial_accumulator: float = 0.1
    eps: float = 1e-7
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_rates(self, "lr", "initial_accumulator", "eps", "weight_decay")
        require(self.eps > 0, "eps > 0", self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        settings = {"lr": self.lr, "eps": self.eps, "weight_decay": self.weight_decay}
        return _Adagrad(
            require_parameters(named_parameters, self), {**settings, "initial_accumulator": self.initial_accumulator}
        )


class _Adagrad(RowSparseOptimizer):
    def _rule(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule:  # noqa: ARG002
        return Rule("adagrad", (group["lr"], group["eps"], group["weight_decay"]), (state["accumulator"],))

    def _new_state(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"accumulator": torch.full_like(parameter, group["initial_accumulator"])}

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        accumulator = state["accumulator"].addcmul_(gradient, gradient)
        parameter.addcdiv_(gradient, accumulator.sqrt().add_(group["eps"]), value=-group["lr"])

    def _update_rows(
        self, parameter: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            gradient.add_(parameter.index_select(0, rows), alpha=group["weight_decay"])
        accumulator = state["accumulator"].index_select(0, rows).addcmul_(gradient, gradient)
        state["accumulator"].index_copy_(0, rows, accumulator)
        parameter.index_add_(0, rows, gradient.div_(accumulator.sqrt_().add_(group["eps"])), alpha=-group["lr"])
