"""`RowwiseAdagrad`: Adagrad with one number of state per row of a table."""

from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from typing import final

import torch

from retrank.ops.update_rules import AdagradRule, RowwiseAdagradRule, Slot
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require_eps, require_parameters, require_rates

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
        require_eps(self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        return _RowwiseAdagrad(require_parameters(named_parameters, self), asdict(self))


class _RowwiseAdagrad(RowSparseOptimizer):
    settings = ("lr", "initial_accumulator", "eps")

    @staticmethod
    @lru_cache(maxsize=64)
    def rule(lr: float, initial_accumulator: float, eps: float) -> RowwiseAdagradRule:
        RowwiseAdagrad(lr, initial_accumulator=initial_accumulator, eps=eps)  # refuses what schedulers must not set
        dense = AdagradRule(lr, eps, 0.0, (Slot("accumulator", "number", initial_accumulator),))
        return RowwiseAdagradRule(lr, eps, (Slot("accumulator", "row", initial_accumulator),), dense)
