"""`Adagrad`: a learning rate for every weight, falling with the gradients it has seen."""

from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from typing import final

import torch

from retrank.ops.update_rules import AdagradRule, Slot
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require_eps, require_parameters, require_rates

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
        require_eps(self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        return _Adagrad(require_parameters(named_parameters, self), asdict(self))


class _Adagrad(RowSparseOptimizer):
    settings = ("lr", "initial_accumulator", "eps", "weight_decay")

    @staticmethod
    @lru_cache(maxsize=64)
    def rule(lr: float, initial_accumulator: float, eps: float, weight_decay: float) -> AdagradRule:
        Adagrad(
            lr, initial_accumulator=initial_accumulator, eps=eps, weight_decay=weight_decay
        )  # refuses what schedulers must not set
        return AdagradRule(lr, eps, weight_decay, (Slot("accumulator", "number", initial_accumulator),))
