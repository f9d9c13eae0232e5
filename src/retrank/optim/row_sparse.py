"""`RowSparseOptimizer`: the step of optimizers that update only the rows named by a gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ShapeError

__all__ = ["RowSparseOptimizer", "merge_rows"]


class RowSparseOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer with one rule for dense gradients and one for the rows of a row-sparse gradient.

    State is created by the first gradient of a parameter, so lazily sized layers are welcome.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew, or None.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(self._new_state(parameter, gradient, group))
                if gradient.is_sparse:
                    self._update_rows(parameter, *merge_rows(gradient), state, group)
                else:
                    self._update(parameter, gradient, state, group)
        return loss

    @abstractmethod
    def _new_state(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> dict[str, Any]: ...

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None: ...

    @abstractmethod
    def _update_rows(
        self, parameter: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Update distinct rows, in place; `gradient` is `(len(rows), dim)` and may be overwritten."""


def merge_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the entries of a row-sparse gradient that name the same row.

    Several times faster than `gradient.coalesce()` and, as that is, deterministic. On a GPU it waits once, for the
    number of distinct rows.

    Args:
        gradient: sparse COO `(rows, dim)`, with one index a row; indices may repeat.

    Returns:
        `(n,)` distinct row numbers in ascending order and `(n, dim)` sums, in memory of their own.

    Raises:
        ShapeError: a sparse gradient of another form.
    """
    if gradient.sparse_dim() != 1 or gradient.dense_dim() != 1:
        raise ShapeError(
            "a row-sparse gradient of a table (rows, dim)",
            f"{gradient.sparse_dim()} sparse and {gradient.dense_dim()} dense dimensions",
            "optimizer step",
            "make the gradient dense",
        )
    ids, values = gradient._indices()[0], gradient._values()
    if ids.numel() == 0:
        return ids, values.clone()
    ids, order = torch.sort(ids, stable=True)
    rows, counts = torch.unique_consecutive(ids, return_counts=True)
    starts = counts.cumsum(0) - counts
    return rows, F.embedding_bag(order, values, starts, mode="sum")
