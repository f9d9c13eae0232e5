"""Offsets, which say where each row of a `Jagged` starts: checked, made of lengths, gathered."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.tensors import as_tensor, can_look

__all__ = ["gather_rows", "is_integer", "offsets_of", "require_ascending", "row_numbers"]

_INTEGERS: Final = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def require_ascending(offsets: Tensor, total: int) -> None:
    """Look at the numbers, unless a GPU would have to be waited for.

    Args:
        offsets: `(rows + 1,)` int64.
        total: the number of values.

    Raises:
        ShapeError: they do not ascend from 0 to the number of values.
    """
    if not can_look(offsets):
        return
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != total or bool((offsets[1:] < offsets[:-1]).any()):
        expected = f"offsets that ascend from 0 to the number of values, {total}"
        shown = [str(offset) for offset in offsets[:8].tolist()]
        got = f"[{', '.join(shown)}{', ...' if len(offsets) > 8 else ''}] ending with {last}"
        raise ShapeError(expected, got, "Jagged", "row r has the values from offsets[r] to offsets[r + 1]")


def is_integer(tensor: Tensor) -> bool:
    """Say whether a tensor holds integers that can be lengths or row numbers; booleans are none.

    Args:
        tensor: any.
    """
    return tensor.dtype in _INTEGERS


def offsets_of(lengths: object, device: torch.device) -> Tensor:
    """Add up lengths.

    Args:
        lengths: `(rows,)` integers, a tensor or an array.
        device: of the result.

    Returns:
        `(rows + 1,)` int64.

    Raises:
        ShapeError: another kind, dtype or shape.
    """
    lengths = as_tensor(lengths, "lengths", "Jagged.from_lengths")
    if lengths.dim() != 1 or not is_integer(lengths):
        raise ShapeError("integer lengths of shape (rows,)", f"{lengths.dtype} {tuple(lengths.shape)}", "Jagged")
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64, device=device)
    torch.cumsum(lengths, dim=0, out=offsets[1:])
    return offsets


def row_numbers(index: object, num_rows: int, device: torch.device, where: str = "Jagged.take") -> Tensor:
    """Take the numbers of rows.

    Args:
        index: `(n,)` integers in `[0, num_rows)`: a tensor, an array or a sequence.
        num_rows: how many rows there are.
        device: where they are.
        where: for messages.

    Returns:
        `(n,)` int64.

    Raises:
        ShapeError: anything but integers in one dimension.
        DataError: a row that is not there; not looked for on a GPU.
    """
    if isinstance(index, Sequence) and not isinstance(index, str):
        try:
            index = torch.tensor(index) if index else torch.empty(0, dtype=torch.int64)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ShapeError("row numbers", f"{index!r}"[:80], where) from error
    rows = as_tensor(index, "row numbers", where)
    if rows.dim() != 1 or not is_integer(rows):
        fix = "rows of a mask are mask.nonzero()[:, 0]" if rows.dtype == torch.bool else None
        raise ShapeError("integer row numbers of shape (n,)", f"{rows.dtype} {tuple(rows.shape)}", where, fix)
    rows = rows.to(device, torch.int64)
    if can_look(rows) and rows.numel() and bool((outside := (rows < 0) | (rows >= num_rows)).any()):
        place = int(outside.nonzero()[0])
        raise DataError(f"rows in [0, {num_rows})", str(int(rows[place])), f"{where}, place {place}", "check")
    return rows


def gather_rows(offsets: Tensor, rows: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Say which values rows have.

    Args:
        offsets: `(rows + 1,)` int64.
        rows: `(n,)` int64 row numbers.
        total: the number of values.

    Returns:
        The places of the values of all n rows, one row after another, and `(n + 1,)` offsets of these.

    Raises:
        ShapeError: somebody changed the offsets in place, and those of the rows no longer fit; not looked for on a GPU.
    """
    starts, ends = offsets[rows], offsets[rows + 1]
    lengths = ends - starts
    _require_within(starts, ends, offsets, total)
    gathered = torch.zeros(len(rows) + 1, dtype=torch.int64, device=offsets.device)
    torch.cumsum(lengths, dim=0, out=gathered[1:])
    places = torch.arange(int(gathered[-1]), device=offsets.device)
    places += torch.repeat_interleave(starts - gathered[:-1], lengths, output_size=len(places))
    return places, gathered


def _require_within(starts: Tensor, ends: Tensor, offsets: Tensor, total: int) -> None:
    if can_look(starts) and bool(((starts < 0) | (ends < starts) | (ends > total)).any()):
        require_ascending(offsets, total)
