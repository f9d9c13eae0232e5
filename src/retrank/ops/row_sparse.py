"""Row-sparse gradients: the rows of a table that a batch read, and what each of them is to change by."""

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import DataError, ShapeError

__all__ = ["merge_rows", "require_row_sparse", "require_rows"]


def merge_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the entries of a row-sparse gradient that name the same row.

    Several times faster than `gradient.coalesce()` and, as that is, deterministic. On a GPU it waits once, for the
    number of distinct rows.

    Args:
        gradient: sparse COO `(rows, dim)`, with one index per row; indices may repeat.

    Returns:
        `(n,)` distinct row numbers in ascending order and `(n, dim)` sums, in memory of their own.

    Raises:
        ShapeError: a sparse gradient of another form.
    """
    require_row_sparse(gradient, "merge_rows")
    ids, values = gradient._indices()[0], gradient._values()
    if values.numel() == 0:
        rows = torch.unique(ids)
        return rows, values.new_zeros(len(rows), values.shape[1])
    ids, order = torch.sort(ids, stable=True)
    rows, counts = torch.unique_consecutive(ids, return_counts=True)
    starts = counts.cumsum(0) - counts
    return rows, F.embedding_bag(order, values, starts, mode="sum")


def require_row_sparse(gradient: Tensor, where: str) -> None:
    """Check that a sparse gradient names whole rows of a table.

    Args:
        gradient: sparse COO.
        where: the place, for the message.

    Raises:
        ShapeError: it has another number of sparse or dense dimensions than one each.
    """
    if gradient.sparse_dim() != 1 or gradient.dense_dim() != 1:
        raise ShapeError(
            "a row-sparse gradient of a table (rows, dim)",
            f"{gradient.sparse_dim()} sparse and {gradient.dense_dim()} dense dimensions",
            where,
            "make the gradient dense",
        )


def require_rows(gradient: Tensor, where: str) -> None:
    """Check that a row-sparse gradient names rows that there are; on the CPU alone, where looking is not waiting.

    Args:
        gradient: sparse COO `(rows, dim)`.
        where: the place, for the message.

    Raises:
        DataError: a row below 0 or beyond the last one.
    """
    if gradient.device.type != "cpu" or not gradient._nnz():
        return
    smallest, largest = torch.aminmax(gradient._indices())
    first, last = int(smallest), int(largest)
    num_rows = gradient.shape[0]
    if first < 0 or last >= num_rows:
        row = first if first < 0 else last
        raise DataError(
            f"a gradient of rows in [0, {num_rows})", f"row {row}", where, "grow the table before it is read"
        )
