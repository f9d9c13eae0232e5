"""What embeddings and lists of rows must be before anything is computed from them."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native

__all__ = [
    "RowLists",
    "as_float32",
    "check_finite",
    "check_permutation",
    "checked_lists",
    "checked_mask",
    "is_shared",
    "largest_magnitude",
    "may_overflow",
]

RowLists = Jagged | Sequence[Sequence[int]]
"""A list of candidate rows for each query: a `Jagged`, or for few queries a list of lists."""

_FLOATS: Final = (torch.float32, torch.float16, torch.bfloat16)


def as_float32(embeddings: Tensor, where: str) -> Tensor:
    """Widen embeddings to float32.

    Args:
        embeddings: `(rows, dim)` float32, float16 or bfloat16.
        where: what they are, for messages.

    Returns:
        `(rows, dim)` float32, detached.

    Raises:
        ShapeError: another shape or dtype. Float64 is not narrowed in silence.
    """
    if not isinstance(embeddings, Tensor):
        raise ShapeError("a tensor", type(embeddings).__name__, where, "give one embedding per row")
    if embeddings.dim() != 2 or embeddings.shape[1] == 0:
        raise ShapeError("shape (rows, dim)", str(tuple(embeddings.shape)), where, "give one embedding per row")
    if embeddings.dtype not in _FLOATS:
        raise ShapeError("float32, float16 or bfloat16", str(embeddings.dtype), where, "convert with .float()")
    return embeddings.detach().float()


def largest_magnitude(embeddings: Tensor) -> Tensor:
    """Find the largest magnitude without another copy of the embeddings, and without waiting for the device.

    Args:
        embeddings: any shape, at least one number.

    Returns:
        Float64 scalar; NaN if any number is NaN.
    """
    low, high = embeddings.aminmax()
    return torch.maximum(-low, high).double()


def may_overflow(queries: Tensor, largest: Tensor) -> Tensor:
    """Say which queries may have scores that are not finite, without waiting for the device.

    Args:
        queries: `(batch, dim)`.
        largest: of the candidates, see `largest_magnitude`.

    Returns:
        `(batch,)` bool: the query or any candidate holds NaN or infinity, or a product can overflow float32.
    """
    bound = queries.abs().amax(dim=1).double() * largest * queries.shape[1]
    return ~(bound < torch.finfo(torch.float32).max)


def check_finite(embeddings: Tensor, where: str, *, first_row: int = 0) -> None:
    """Check that embeddings hold numbers.

    Args:
        embeddings: `(rows, dim)`.
        where: what they are, for messages.
        first_row: what the first row is called in messages.

    Raises:
        DataError: NaN or infinity.
    """
    if embeddings.numel() == 0 or bool(largest_magnitude(embeddings).isfinite()):
        return
    row = first_row + int((~embeddings.isfinite().all(dim=1)).nonzero()[0])
    raise DataError("finite embeddings", "NaN or infinity", f"{where}, row {row}", "check the model")


def check_permutation(order: Tensor, candidates: Tensor) -> None:
    """Check that an order names every candidate once.

    Args:
        order: `(num_candidates,)` int64, contiguous, on the device of the candidates.
        candidates: `(num_candidates, dim)`.

    Raises:
        ShapeError: another shape, dtype or device.
        DataError: a row that is no candidate, or one that is named twice.
    """
    count = len(candidates)
    fits = order.shape == (count,) and order.dtype == torch.int64 and order.device == candidates.device
    if not fits or not order.is_contiguous():
        raise ShapeError(
            f"an order of shape ({count},), contiguous int64 on {candidates.device}",
            f"{order.dtype} of shape {tuple(order.shape)} on {order.device}",
            "order",
            "give a permutation of the candidate rows",
        )
    named = torch.zeros(count, dtype=torch.bool, device=order.device)
    low, high = order.aminmax()
    if int(low) >= 0 and int(high) < count:
        named[order] = True
    if not bool(named.all()):
        raise DataError("a permutation of the candidate rows", "another order", "order", "e.g. torch.randperm")


def checked_lists(lists: RowLists, num_lists: int, num_rows: int, device: torch.device, where: str) -> Jagged:
    """Check lists of rows, and bring them to where they are used.

    Args:
        lists: of rows in `[0, num_rows)`, in any order; repeats are allowed. Lists of Python integers will do.
        num_lists: how many there must be.
        num_rows: all values must lie below.
        device: where to.
        where: what the lists are, for messages.

    Returns:
        The same lists, contiguous: their values can be looked up by their offsets.

    Raises:
        ShapeError: another number of lists, not int64, or offsets that do not ascend from 0 to the number of values.
        DataError: a value that is no row.
    """
    if not isinstance(lists, Jagged) and _are_lists_of_rows(lists):
        lists = Jagged.from_lists(lists)
    values, offsets = (lists.values, lists.offsets) if isinstance(lists, Jagged) else (None, None)
    if values is None or offsets is None:
        raise ShapeError(
            "a Jagged of candidate rows", type(lists).__name__, where, "build one with Jagged.from_lists or group"
        )
    forms = (offsets.shape, values.dim(), offsets.dtype, values.dtype)
    if forms != ((num_lists + 1,), 1, torch.int64, torch.int64):
        raise ShapeError(
            f"int64 candidate rows for {num_lists} queries",
            f"{values.dtype} of shape {tuple(values.shape)}, {offsets.dtype} offsets of shape {tuple(offsets.shape)}",
            where,
            "give one list per query, an empty one where there is nothing to say",
        )
    values, offsets = values.to(device).contiguous(), offsets.to(device).contiguous()
    mistake = _first_mistake(values, offsets, num_rows)
    if 0 <= mistake <= num_lists:
        raise ShapeError(
            f"offsets that ascend from 0 to {len(values)}, the number of values",
            f"{offsets[mistake : mistake + 2].tolist()} and {int(offsets[-1])} at the end",
            f"{where}, row {mistake}",
            "build it with Jagged.from_lists or Jagged.from_lengths",
        )
    if mistake >= 0:
        place = mistake - num_lists - 1
        row = int(torch.searchsorted(offsets, torch.tensor(place, device=device), right=True)) - 1
        raise DataError(
            f"candidate rows in [0, {num_rows})",
            str(int(values[place])),
            f"{where}, row {row}",
            "leave unknown candidates out",
        )
    return Jagged.unchecked(values, offsets)


def _are_lists_of_rows(lists: object) -> bool:
    return isinstance(lists, list | tuple) and all(
        isinstance(rows, list | tuple) and all(type(row) is int for row in rows) for rows in lists
    )


def is_shared(lists: RowLists) -> bool:
    """Say whether there is one list, which then holds for all queries.

    Args:
        lists: unchecked.
    """
    if isinstance(lists, Jagged):
        return lists.offsets.shape == (2,)
    return _are_lists_of_rows(lists) and len(lists) == 1


def checked_mask(mask: Tensor, num_rows: int, device: torch.device, where: str) -> Tensor:
    """Check a mask over all rows, and bring it to where it is used.

    Args:
        mask: `(num_rows,)` bool.
        num_rows: how many there are.
        device: where to.
        where: what the mask is, for messages.

    Returns:
        The same mask, contiguous.

    Raises:
        ShapeError: another shape or dtype.
    """
    if mask.shape != (num_rows,) or mask.dtype != torch.bool:
        raise ShapeError(
            f"a bool mask of shape ({num_rows},), or a Jagged of candidate rows",
            f"{mask.dtype} of shape {tuple(mask.shape)}",
            where,
            "say for each candidate whether it may be returned",
        )
    return mask.to(device).contiguous()


def _first_mistake(values: Tensor, offsets: Tensor, num_rows: int) -> int:
    """Return the list whose offsets are wrong, or behind all lists the place of a value that is no row, or -1."""
    num_lists = len(offsets) - 1
    if values.is_cpu and is_native():
        mistake = torch.empty(1, dtype=torch.int64)
        call("check_lists", offsets, num_lists, values, len(values), num_rows, mistake)
        return int(mistake)
    wrong = torch.zeros(num_lists + 1, dtype=torch.bool, device=offsets.device)
    wrong[:-1] = offsets.diff() < 0
    wrong[0] |= offsets[0] != 0
    wrong[-1] |= offsets[-1] != len(values)
    outside = (values < 0) | (values >= num_rows)
    both = torch.cat([wrong, outside])
    return int(both.nonzero()[0]) if bool(both.any()) else -1
