"""`RowSparseOptimizer`: the step of optimizers that update only the rows named by a gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.ops.optimizer_step import KernelStep, Rule
from retrank.ops.rounding import HALF_PRECISION, draw_seed, restore_state, round_randomly

__all__ = ["RowSparseOptimizer", "merge_rows"]


class RowSparseOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer with one rule for dense gradients and one for the rows of a row-sparse gradient.

    State is created by the first gradient of a parameter, so lazily sized layers are welcome. A parameter in half
    precision is updated in float32, with state in float32, and rounded up or down at random: see `round_randomly`.
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
        kernel = KernelStep()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(self._new_state(_in_float32(parameter), gradient, group))
                if gradient.is_sparse:
                    _require_row_sparse(gradient)
                if KernelStep.takes(parameter, gradient):
                    rule = self._rule(gradient, state, group)
                    if rule is not None:
                        kernel.add(parameter, gradient, rule)
                        continue
                if parameter.dtype in HALF_PRECISION:
                    self._update_half(parameter, gradient, state, group)
                elif gradient.is_sparse:
                    self._update_rows(parameter, *merge_rows(gradient), state, group)
                else:
                    self._update(parameter, gradient, state, group)
        kernel.run()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another optimizer of the same parameters stopped.

        Args:
            state_dict: what its `state_dict` returned.
        """
        super().load_state_dict(state_dict)
        restore_state(self, state_dict)

    def _update_half(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not gradient.is_sparse:
            weights = parameter.float()
            self._update(weights, gradient.float(), state, group)
            places = torch.arange(weights.numel(), device=weights.device)
            rounded = round_randomly(weights.reshape(-1, 1), places, parameter.dtype, seed=draw_seed())
            parameter.copy_(rounded.view_as(parameter))
            return
        rows, values = merge_rows(gradient)
        weights = parameter.index_select(0, rows).float()
        # The rows alone, as if they were all there is.
        chosen = {name: value.index_select(0, rows) if _is_by_row(value) else value for name, value in state.items()}
        self._update_rows(weights, torch.arange(len(rows), device=rows.device), values.float(), chosen, group)
        parameter.index_copy_(0, rows, round_randomly(weights, rows, parameter.dtype, seed=draw_seed()))
        for name, value in chosen.items():
            if _is_by_row(value):
                state[name].index_copy_(0, rows, value)
            else:
                state[name] = value

    def _rule(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule | None:  # noqa: ARG002
        """Begin a step of the kernel that does what `_update` or `_update_rows` does, if there is one."""
        return None

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
    ids, values = _rows_and_values(gradient)
    if ids.numel() == 0:
        return ids, values.clone()
    ids, order = torch.sort(ids, stable=True)
    rows, counts = torch.unique_consecutive(ids, return_counts=True)
    starts = counts.cumsum(0) - counts
    return rows, F.embedding_bag(order, values, starts, mode="sum")


def _in_float32(parameter: Tensor) -> Tensor:
    """Return something of the shape and device of a parameter, and of the dtype of its state."""
    if parameter.dtype not in HALF_PRECISION:
        return parameter
    return torch.zeros((), device=parameter.device).expand(parameter.shape)


def _is_by_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _rows_and_values(gradient: Tensor) -> tuple[Tensor, Tensor]:
    _require_row_sparse(gradient)
    return gradient._indices()[0], gradient._values()


def _require_row_sparse(gradient: Tensor) -> None:
    if gradient.sparse_dim() != 1 or gradient.dense_dim() != 1:
        raise ShapeError(
            "a row-sparse gradient of a table (rows, dim)",
            f"{gradient.sparse_dim()} sparse and {gradient.dense_dim()} dense dimensions",
            "optimizer step",
            "make the gradient dense",
        )
