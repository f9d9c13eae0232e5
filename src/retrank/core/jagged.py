"""`Jagged`: the one form of a column whose rows hold lists of any length."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self, final

import numpy.typing as npt
import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.jagged_parts import kept_places, taken_parts, values_and_lengths
from retrank.core.offsets import gather_rows, offsets_of, require_ascending, row_numbers
from retrank.core.tensors import as_tensor, as_tensor_or_none

__all__ = ["Jagged"]

Array = npt.NDArray[Any]


@final
class Jagged:
    """Rows of variable length: all values in one tensor, and where each row starts.

    Args:
        values: `(total, ...)`, the rows one after another; like the others a tensor, or a NumPy array, which is copied.
        offsets: `(rows + 1,)` int64, ascending from 0 to `total`; row r is `values[offsets[r]:offsets[r + 1]]`.
        weights: `(total,)` floats, one a value, or None.

    Raises:
        ShapeError: the three do not fit each other; the numbers in the offsets are looked at on the CPU alone, since a
            GPU would have to be waited for.

    Example:
        >>> import retrank as rr
        >>> genres = rr.Jagged.from_lists([[4, 2], [], [7]])
        >>> len(genres), genres.lengths().tolist(), genres.take([2, 0]).to_lists()
        (3, [2, 0, 1], [[7], [4, 2]])

    Source: the layout of Arrow lists, `torch.nested` (jagged) and TorchRec's `JaggedTensor`.
    """

    __slots__ = ("offsets", "values", "weights")

    def __init__(self, values: Tensor | Array, offsets: Tensor | Array, weights: Tensor | Array | None = None) -> None:
        self.values, self.offsets, self.weights = taken_parts(values, offsets, weights, "Jagged")
        self.check()

    def check(self) -> None:
        """Look at the offsets again, which somebody may have changed in place; does nothing on a GPU.

        Raises:
            ShapeError: they do not ascend from 0 to the number of values.
        """
        require_ascending(self.offsets, len(self.values))

    @classmethod
    def unchecked(cls, values: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Self:
        """Build from parts that were just made to fit each other, without looking at them again.

        Args:
            values: as in `Jagged`.
            offsets: as in `Jagged`.
            weights: as in `Jagged`.
        """
        made = cls.__new__(cls)
        made.values, made.offsets, made.weights = values, offsets, weights
        return made

    @classmethod
    def single(cls, values: Tensor) -> Self:
        """Build from the values of one row.

        Args:
            values: `(total, ...)`.

        Returns:
            A `Jagged` with one row.
        """
        return cls.unchecked(values, torch.tensor([0, len(values)], device=values.device))

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[Any]], dtype: torch.dtype = torch.int64) -> Self:
        """Build from Python lists, for small inputs and tests.

        Args:
            lists: one list a row.
            dtype: of the values.

        Returns:
            A `Jagged` with `len(lists)` rows.

        Raises:
            ShapeError: no lists of numbers, or numbers that the dtype cannot hold.
        """
        return cls.from_lengths(*values_and_lengths(lists, dtype))

    @classmethod
    def from_lengths(
        cls, values: Tensor | Array, lengths: Tensor | Array, weights: Tensor | Array | None = None
    ) -> Self:
        """Build from the length of each row.

        Args:
            values: `(total, ...)`.
            lengths: `(rows,)` integers that add up to `total`.
            weights: `(total,)` or None.

        Returns:
            A `Jagged` with `len(lengths)` rows.

        Raises:
            ShapeError: the lengths do not add up to the number of values, or one is negative.
        """
        values = as_tensor(values, "values", "Jagged.from_lengths")
        return cls(values, offsets_of(lengths, values.device), weights)

    @classmethod
    def from_padded(cls, values: Tensor | Array, kept: Tensor | Array, weights: Tensor | Array | None = None) -> Self:
        """Build from a rectangle of padded rows.

        Args:
            values: `(rows, columns, ...)`.
            kept: `(rows,)` integer lengths, or a `(rows, columns)` bool mask, False for padding anywhere in a row.
            weights: `(rows, columns)` or None.

        Returns:
            A `Jagged` with as many rows, without the padding.

        Raises:
            ShapeError: tensors that do not fit, or a length that is negative or beyond the columns.

        Example:
            >>> import torch, retrank as rr
            >>> ids = torch.tensor([[4, 2, 0], [7, 0, 0]])
            >>> rr.Jagged.from_padded(ids, torch.tensor([2, 1])).to_lists()
            [[4, 2], [7]]
        """
        where = "Jagged.from_padded"
        values, weights = as_tensor(values, "values", where), as_tensor_or_none(weights, "weights", where)
        mask = kept_places(values, as_tensor(kept, "kept", where), weights)
        return cls.from_lengths(values[mask], mask.sum(dim=1), None if weights is None else weights[mask])

    @classmethod
    def group(cls, rows: Tensor | Array, values: Tensor | Array, num_rows: int) -> Self:
        """Collect values by row number, keeping the order in which they came.

        Args:
            rows: `(total,)` int64 row of each value, in `[0, num_rows)`, in any order.
            values: `(total, ...)`.
            num_rows: rows of the result; a row that no value names is empty.

        Returns:
            A `Jagged` with `num_rows` rows.

        Raises:
            ShapeError: rows and values that do not fit each other.
            DataError: a row outside of `[0, num_rows)`; not looked for on a GPU.

        Example:
            >>> import torch, retrank as rr
            >>> rr.Jagged.group(torch.tensor([2, 0, 2]), torch.tensor([5, 6, 7]), num_rows=3).to_lists()
            [[6], [], [5, 7]]
        """
        rows, values = as_tensor(rows, "rows", "Jagged.group"), as_tensor(values, "values", "Jagged.group")
        if rows.dtype != torch.int64 or rows.dim() != 1 or values.shape[:1] != rows.shape:
            got = f"{rows.dtype} {tuple(rows.shape)} and values {tuple(values.shape)}"
            raise ShapeError("an int64 row for each value", got, "Jagged.group")
        rows = row_numbers(rows, num_rows, rows.device, "Jagged.group")
        order = torch.argsort(rows, stable=True)
        return cls.from_lengths(values[order], torch.bincount(rows, minlength=num_rows))

    @classmethod
    def empty(cls, num_rows: int, dtype: torch.dtype = torch.int64, device: torch.device | str = "cpu") -> Self:
        """Build rows that hold nothing.

        Args:
            num_rows: rows of the result.
            dtype: of the (absent) values.
            device: where it lives.

        Returns:
            A `Jagged` with `num_rows` empty rows.
        """
        offsets = torch.zeros(num_rows + 1, dtype=torch.int64, device=device)
        return cls(torch.empty(0, dtype=dtype, device=device), offsets)

    @classmethod
    def concat(cls, parts: Sequence["Jagged"]) -> Self:
        """Put the rows of several after another.

        Args:
            parts: at least one, all with weights or all without.

        Returns:
            A `Jagged` with the rows of all parts.

        Raises:
            ShapeError: no parts, or only some have weights.
        """
        if not parts or len({part.weights is None for part in parts}) != 1:
            expected = "at least one part, all with weights or all without"
            raise ShapeError(expected, f"{len(parts)} parts", "Jagged.concat")
        weights = [part.weights for part in parts if part.weights is not None]
        return cls.from_lengths(
            torch.cat([part.values for part in parts]),
            torch.cat([part.lengths() for part in parts]),
            torch.cat(weights) if weights else None,
        )

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    def __repr__(self) -> str:
        return f"Jagged(rows={len(self)}, values={tuple(self.values.shape)} {self.values.dtype}, device={self.device})"

    def __getitem__(self, rows: slice) -> "Jagged":
        """Return the rows of a slice with step 1 as views of the same memory."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ShapeError("a slice with step 1", f"step {step}", "Jagged[...]", "use take() for other rows")
        offsets = self.offsets[start : max(start, stop) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        weights = None if self.weights is None else self.weights[first:last]
        return Jagged.unchecked(self.values[first:last], offsets - first, weights)

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.values.device

    def lengths(self) -> Tensor:
        """Return `(rows,)` int64, the values in each row."""
        return self.offsets.diff()

    def row_index(self) -> Tensor:
        """Return `(total,)` int64, the row of each value.

        Raises:
            ShapeError: somebody changed the offsets in place, and they no longer fit; see `check`.
        """
        self.check()  # torch writes beyond its memory if the lengths do not add up to `output_size`
        rows = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(rows, self.lengths(), output_size=len(self.values))

    def take(self, index: Tensor | Array | Sequence[int]) -> "Jagged":
        """Gather rows.

        Args:
            index: `(n,)` row numbers in `[0, rows)`; repeats are allowed.

        Returns:
            A `Jagged` with n rows.

        Raises:
            DataError: a row that is not there; on a GPU, torch's own device-side assertion stops the program instead.
            ShapeError: no row numbers; or somebody changed the offsets in place, and those of the rows no longer fit,
                see `check`.
        """
        rows = row_numbers(index, len(self), self.device)
        places, offsets = gather_rows(self.offsets, rows, len(self.values))
        weights = None if self.weights is None else self.weights[places]
        return Jagged.unchecked(self.values[places], offsets, weights)

    def with_values(self, values: Tensor) -> "Jagged":
        """Put other values in the place of these, such as hashes of them.

        Args:
            values: `(total, ...)`, as many.

        Returns:
            A `Jagged` with the same rows and weights.

        Raises:
            ShapeError: another number of values.
        """
        if values.shape[:1] != self.values.shape[:1]:
            expected, got = f"{len(self.values)} values", f"shape {tuple(values.shape)}"
            raise ShapeError(expected, got, "Jagged.with_values", "replace each")
        return Jagged.unchecked(values, self.offsets, self.weights)

    def to_lists(self) -> list[list[Any]]:
        """Return the rows as Python lists."""
        values, offsets = self.values.tolist(), self.offsets.tolist()
        return [values[first:last] for first, last in pairwise(offsets)]

    def to_padded(self, length: int | None = None, fill: float = 0) -> Tensor:
        """Return a rectangle, short rows filled up and long rows cut.

        Args:
            length: columns of the result; the longest row by default.
            fill: the value behind the end of a row.

        Returns:
            `(rows, length, ...)`; a longer row keeps its first `length` values.

        Raises:
            ShapeError: somebody changed the offsets in place, and they no longer fit; see `check`.
        """
        rows = self.row_index()
        if length is None:
            length = int(self.lengths().max()) if len(self) else 0
        padded = self.values.new_full((len(self), length, *self.values.shape[1:]), fill)
        column = torch.arange(len(self.values), device=self.device) - self.offsets[rows]
        keep = column < length
        padded[rows[keep], column[keep]] = self.values[keep]
        return padded

    def to_nested(self) -> Tensor:
        """Return a jagged-layout `torch.nested` tensor that shares the values."""
        return torch.nested.nested_tensor_from_jagged(self.values, self.offsets)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Jagged":
        """Return the same rows on a device.

        Args:
            device: where to.
            non_blocking: do not wait for the copy of pinned memory.

        Returns:
            A `Jagged` on that device.
        """
        weights = None if self.weights is None else self.weights.to(device, non_blocking=non_blocking)
        values = self.values.to(device, non_blocking=non_blocking)
        moved = Jagged.unchecked(values, self.offsets.to(device, non_blocking=non_blocking), weights)
        if moved.offsets.is_cpu and not self.offsets.is_cpu and not non_blocking:
            moved.check()  # nobody could look at them before
        return moved

    def pin_memory(self) -> "Jagged":
        """Return the same rows in page-locked memory, from which a GPU copies without waiting."""
        weights = None if self.weights is None else self.weights.pin_memory()
        return Jagged.unchecked(self.values.pin_memory(), self.offsets.pin_memory(), weights)
