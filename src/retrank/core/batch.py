"""`Batch`: named columns of equal length, the one thing that flows through models."""

from collections.abc import ItemsView, Mapping, Sequence
from typing import Any, final, overload

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.tensors import as_tensor

__all__ = ["Batch", "Column", "as_batch"]

Column = Tensor | Jagged
"""A column of a batch: a tensor whose first dimension is the row, or a `Jagged`."""


@final
class Batch:
    """Named columns of equal length, read-only.

    Args:
        columns: name to tensor `(rows, ...)`, NumPy array, which is copied, or `Jagged` with as many rows.

    Raises:
        ShapeError: no columns, a scalar, a list, or columns of different length.

    Example:
        >>> import torch, retrank as rr
        >>> batch = rr.Batch({"user_id": torch.tensor([2, 3]), "genres": rr.Jagged.from_lists([[4], [5, 6]])})
        >>> len(batch), batch.names, batch[1:]["genres"].to_lists()
        (2, ('user_id', 'genres'), [[5, 6]])
    """

    __slots__ = ("_columns", "_rows")

    def __init__(self, columns: Mapping[str, Column]) -> None:
        if not columns:
            raise ShapeError("at least one column", "none", "Batch")
        columns = {
            name: column if isinstance(column, Tensor | Jagged) else as_tensor(column, f"column '{name}'", "Batch")
            for name, column in columns.items()
        }
        for name, column in columns.items():
            if isinstance(column, Tensor) and column.dim() == 0:
                raise ShapeError("a tensor with rows", "a scalar", f"column '{name}'", "reshape it to (rows,)")
        lengths = [column.shape[0] if isinstance(column, Tensor) else len(column) for column in columns.values()]
        if any(length != lengths[0] for length in lengths):
            found = dict(zip(columns, lengths, strict=True))
            raise ShapeError("columns of equal length", str(found), "Batch")
        self._columns, self._rows = columns, lengths[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(self._columns)

    @property
    def device(self) -> torch.device:
        """The device of the first column."""
        return next(iter(self._columns.values())).device

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @overload
    def __getitem__(self, key: slice) -> "Batch": ...

    @overload
    def __getitem__(self, key: str) -> Any: ...  # a union would make every reader narrow it

    def __getitem__(self, key: str | slice) -> Any:
        """Return the column of a name (`Tensor` or `Jagged`), or the rows of a slice as views."""
        if isinstance(key, slice):
            return Batch({name: column[key] for name, column in self._columns.items()})
        try:
            return self._columns[key]
        except KeyError:
            raise DataError(f"a column '{key}'", f"the columns {list(self._columns)}", "Batch") from None

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}: {column!r}" if isinstance(column, Jagged) else f"{name}: {tuple(column.shape)} {column.dtype}"
            for name, column in self._columns.items()
        )
        return f"Batch(rows={self._rows}, {shapes})"

    def items(self) -> ItemsView[str, Column]:
        """Return the (name, column) pairs, in order."""
        return self._columns.items()

    def select(self, names: Sequence[str]) -> "Batch":
        """Return only these columns, in this order."""
        return Batch({name: self[name] for name in names})

    def merge(self, columns: "Mapping[str, Column] | Batch") -> "Batch":
        """Return a batch with columns added or replaced.

        Args:
            columns: name to column, each with as many rows as this batch.

        Returns:
            A new batch.
        """
        return Batch({**self._columns, **dict(columns.items())})

    def take(self, index: Tensor) -> "Batch":
        """Gather rows.

        Args:
            index: `(n,)` int64 row numbers; repeats are allowed.

        Returns:
            A batch of n rows.
        """
        return Batch({name: _take(column, index) for name, column in self._columns.items()})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the same rows on a device.

        Args:
            device: where to.
            non_blocking: do not wait for the copy of pinned memory.

        Returns:
            A batch on that device, this one if all of it is there.
        """
        device = torch.device(device)
        if all(column.device == device for column in self._columns.values()):
            return self
        return Batch({name: column.to(device, non_blocking=non_blocking) for name, column in self._columns.items()})

    def pin_memory(self) -> "Batch":
        """Return the same rows in page-locked memory, from which a GPU copies without waiting."""
        return Batch({name: column.pin_memory() for name, column in self._columns.items()})

    @classmethod
    def concat(cls, parts: Sequence["Batch"]) -> "Batch":
        """Put the rows of several after another.

        Args:
            parts: at least one, all with the same columns.

        Returns:
            One batch, with the columns in the order of the first part.

        Raises:
            ShapeError: no parts, or different columns.
        """
        if not parts or len({frozenset(part.names) for part in parts}) != 1:
            raise ShapeError(
                "parts with the same columns", str([part.names for part in parts]), "Batch.concat", "select first"
            )
        return cls({name: _concat([part._columns[name] for part in parts]) for name in parts[0].names})


def _take(column: Column, index: Tensor) -> Column:
    return column.take(index) if isinstance(column, Jagged) else column.index_select(0, index.to(column.device))


def _concat(columns: Sequence[Column]) -> Column:
    jagged = [column for column in columns if isinstance(column, Jagged)]
    if jagged and len(jagged) != len(columns):
        raise ShapeError("all parts jagged or none", "a mixture", "Batch.concat")
    return Jagged.concat(jagged) if jagged else torch.cat([column for column in columns if isinstance(column, Tensor)])


def as_batch(batch: object, where: str) -> Batch:
    """Take a batch, or columns by name.

    Args:
        batch: what was given.
        where: to what it was given, for the message.

    Returns:
        The batch.

    Raises:
        ShapeError: anything else, or columns that do not make one.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Mapping):
        return Batch(batch)
    fix = "look up ids alone in the table of a feature"
    raise ShapeError("a batch with a column for every feature", f"a {type(batch).__name__}", where, fix)
