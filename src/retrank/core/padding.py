"""Rectangles of padded rows: which places hold something."""

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.tensors import can_look

__all__ = ["kept_places"]


def kept_places(values: Tensor, kept: Tensor, weights: Tensor | None) -> Tensor:
    """Check a rectangle and say which of its places hold a value.

    Args:
        values: `(rows, columns, ...)`.
        kept: `(rows,)` integer lengths, or a `(rows, columns)` bool mask.
        weights: `(rows, columns)` or None.

    Returns:
        `(rows, columns)` bool.

    Raises:
        ShapeError: tensors that do not fit, or a length that is negative or beyond the columns.
    """
    where = "Jagged.from_padded"
    if values.dim() < 2:
        raise ShapeError("values of shape (rows, columns, ...)", str(tuple(values.shape)), where)
    rows, columns = values.shape[:2]
    if weights is not None and weights.shape != (rows, columns):
        raise ShapeError(f"weights of shape ({rows}, {columns})", str(tuple(weights.shape)), where)
    if kept.dtype == torch.bool and kept.shape == (rows, columns):
        return kept
    is_integer = not (kept.dtype == torch.bool or kept.is_floating_point() or kept.is_complex())
    if not is_integer or kept.shape != (rows,):
        expected = f"integer lengths of shape ({rows},) or a bool mask of shape ({rows}, {columns})"
        raise ShapeError(expected, f"{kept.dtype} of shape {tuple(kept.shape)}", where)
    if can_look(kept) and bool((bad := (kept < 0) | (kept > columns)).any()):
        row = int(bad.nonzero()[0])
        raise ShapeError(f"lengths in [0, {columns}]", str(int(kept[row])), f"{where}, row {row}")
    return torch.arange(columns, device=kept.device) < kept[:, None]
