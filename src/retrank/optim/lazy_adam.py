"""`LazyAdam`: Adam whose moments stand still in rows that the batch did not read."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import torch
from torch import Tensor

from retrank.ops.optimizer_step import Rule
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_parameters, require_rates

__all__ = ["LazyAdam"]


@final
@dataclass(frozen=True)
class LazyAdam(OptimizerSpec):
    """Adam that updates weights and moments of a table only in the rows that a row-sparse gradient names.

    A dense gradient makes it plain Adam (AdamW with weight decay). For a row-sparse gradient the step count, and so
    the bias correction, is that of the whole table, and eps is added before the correction as in torch's SparseAdam.

    Args:
        lr: learning rate; a scheduler may change it.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, w ← w - lr · weight_decay · w; of a row-sparse gradient, only in the rows it names.

    Raises:
        ConfigError: a setting out of range.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.EmbeddingTable(10, 2)
        >>> before = table.weight.detach().clone()
        >>> optimizer = rr.optim.LazyAdam(lr=0.1).build(table.named_parameters())
        >>> table(torch.tensor([4, 7])).sum().backward()
        >>> optimizer.step()
        >>> (table.weight != before).any(dim=1).nonzero().flatten()
        tensor([4, 7])

    Source: Kingma and Ba, Adam, 2015; equal to `torch.optim.SparseAdam` for row-sparse gradients, to
    `torch.optim.Adam` and `AdamW` for dense ones.
    """

    lr: float = 1e-3
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON knows lists only
        require_rates(self, "lr", "eps", "weight_decay")
        require(self.eps > 0, "eps > 0", self)
        require(len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two betas in [0, 1)", self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        settings = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        return _LazyAdam(require_parameters(named_parameters, self), settings)


class _LazyAdam(RowSparseOptimizer):
    def _rule(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule:
        state["step"] += 1
        keep = 1 - group["lr"] * group["weight_decay"]
        # Adam adds eps to the corrected root, its form for rows to the root as it is.
        correction = 1.0 if gradient.is_sparse else math.sqrt(1 - group["betas"][1] ** state["step"])
        shares = (1 - beta for beta in group["betas"])  # of what is new
        settings = (_rate(state, group), *shares, group["eps"] * correction, keep)
        return Rule("adam", settings, (state["mean"], state["square"]))

    def _new_state(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - beta1)
        square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        root = square.sqrt().div_(math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1 ** state["step"]))

    def _update_rows(
        self, parameter: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["mean"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        square = state["square"].index_select(0, rows).lerp_(gradient.square_(), 1 - beta2)
        state["mean"].index_copy_(0, rows, mean)
        state["square"].index_copy_(0, rows, square)
        weights = parameter.index_select(0, rows)
        if group["weight_decay"]:
            weights.mul_(1 - group["lr"] * group["weight_decay"])
        root = square.sqrt_().add_(group["eps"])
        parameter.index_copy_(0, rows, weights.addcdiv_(mean, root, value=-_rate(state, group)))


def _rate(state: dict[str, Any], group: dict[str, Any]) -> float:
    beta1, beta2 = group["betas"]
    rate: float = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
    return rate
