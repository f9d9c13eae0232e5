"""`LazyAdam`: Adam whose moments stand still in rows that the batch did not read."""

from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from typing import final

import torch

from retrank.ops.update_rules import AdamRule
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import (
    NamedParameters,
    OptimizerSpec,
    require_betas,
    require_eps,
    require_parameters,
    require_rates,
)

__all__ = ["LazyAdam"]


@final
@dataclass(frozen=True)
class LazyAdam(OptimizerSpec):
    """Adam that updates weights and moments of a table only in the rows that a row-sparse gradient names.

    A dense gradient makes it plain Adam (AdamW with weight decay). For a row-sparse gradient the step count, and so
    the bias correction, is that of the whole table, and eps is added before the correction as in torch's SparseAdam.
    That holds for rows, too, that the table gains later by `grow`: their moments start at zero, their count does not.

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
        require_rates(self, "lr", "eps", "weight_decay")
        require_eps(self)
        require_betas(self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        return _LazyAdam(require_parameters(named_parameters, self), asdict(self))


class _LazyAdam(RowSparseOptimizer):
    settings = ("lr", "betas", "eps", "weight_decay")

    @staticmethod
    @lru_cache(maxsize=64)
    def rule(lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamRule:
        LazyAdam(lr, betas=betas, eps=eps, weight_decay=weight_decay)  # refuses what schedulers must not set
        return AdamRule(lr, betas, eps, weight_decay)
