"""What a `Jagged` is made of: values and offsets, Python lists, or a rectangle of padded rows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.tensors import as_tensor, as_tensor_or_none, can_look

__all__ = ["kept_places", "taken_parts", "values_and_lengths"]


def taken_parts(values: object, offsets: object, weights: object, where: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Take the parts of a `Jagged`, tensors or NumPy arrays, if their shapes fit each other.

    Args:
        values: `(total, ...)`.
        offsets: `(rows + 1,)` int64.
        weights: `(total,)` or None.
        where: to what they were given, for messages.

    Returns:
        The three as tensors.

    Raises:
        ShapeError: other kinds, dtypes or shapes.
    """
    values, offsets = as_tensor(values, "values", where), as_tensor(offsets, "offsets", where)
    weights = as_tensor_or_none(weights, "weights", where)
    if any(tensor is not None and tensor.is_nested for tensor in (values, offsets, weights)):
        raise ShapeError("tensors with a shape", "nested ones", where, "pass the values and offsets of one")
    if offsets.dim() != 1 or offsets.dtype != torch.int64 or len(offsets) == 0 or values.dim() == 0:
        expected = "values of shape (total, ...) and int64 offsets of shape (rows + 1,)"
        got = f"values {tuple(values.shape)}, offsets {tuple(offsets.shape)} {offsets.dtype}"
        raise ShapeError(expected, got, where, "offsets begin with 0 and end with the number of values")
    if weights is not None and weights.shape != values.shape[:1]:
        raise ShapeError(f"weights of shape ({len(values)},)", str(tuple(weights.shape)), where)
    return values, offsets, weights


def values_and_lengths(lists: Sequence[Sequence[Any]], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Take Python lists.

    Args:
        lists: one list of numbers a row.
        dtype: of the values.

    Returns:
        `(total,)` values and `(rows,)` lengths.

    Raises:
        ShapeError: no lists of numbers, or numbers that the dtype cannot hold.
    """
    where = "Jagged.from_lists"
    try:
        flat = [value for row in lists for value in row]
        lengths = torch.tensor([len(row) for row in lists], dtype=torch.int64)
        values = torch.tensor(flat, dtype=dtype)
        is_cut = bool(flat) and torch.tensor(flat).is_floating_point() and not dtype.is_floating_point
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ShapeError(f"lists of numbers, as {dtype}", str(error), where) from error
    if is_cut:
        raise ShapeError(f"lists of numbers, as {dtype}", "fractions", where, "say dtype=torch.float32")
    return values, lengths


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
