"""`Table`: what all tables of vectors have in common."""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.hooks import has_hooks
from retrank.core.jagged import Jagged
from retrank.core.penalties import add_penalty
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.core.tensors import as_tensor
from retrank.embeddings.pooling import Combiner, pool_vectors, require_combiner
from retrank.ops.concatenate_lookups import Lookup
from retrank.ops.prepared_lookups import Rows

__all__ = ["Table"]


class Table(Configurable, nn.Module, ABC):
    """Ids in, vectors out: `EmbeddingTable`, and those that hold fewer rows than there are ids.

    Args:
        rows: the schema of an id column, or the number of ids with padding and unknown counted.
        dim: length of a vector.
        combiner: how lists are pooled.
        l2: factor of `penalty`.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column.
    """

    name: str
    dim: int
    combiner: Combiner
    column: str | None
    """The column whose ids it holds, if it was built of a schema."""

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        combiner: Combiner = "mean",
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self._schema = rows if isinstance(rows, ColumnSchema) else None
        self.column = None if self._schema is None else self._schema.name
        if isinstance(rows, ColumnSchema):
            name, rows = name or rows.name, _num_ids(rows)
        self.name, self.combiner = name or "embedding", combiner
        self._num_ids, self.dim = _as_int(rows), _as_int(dim)
        if self._num_ids < NUM_SPECIAL_IDS or self.dim < 1:
            raise self._config_error(f"rows >= {NUM_SPECIAL_IDS} and dim >= 1", f"rows={rows}, dim={dim}")
        require_combiner(combiner, f"{type(self).__name__} '{self.name}'")
        if not l2 >= 0:
            raise self._config_error("l2 >= 0", f"l2={l2}")
        self.l2 = l2
        self._remember_size()

    @property
    def num_ids(self) -> int:
        """The number of ids, padding and unknown included."""
        return self._num_ids

    def forward(self, ids: Tensor | Jagged) -> Tensor:
        """Look up ids, or pool lists of them.

        Args:
            ids: `(batch,)` or `(batch, length)` int64, as a tensor or a NumPy array, or a `Jagged` of int64 ids, pooled
                with its weights if any.

        Returns:
            `(batch, dim)`; `(batch, length, dim)` for a rectangle of ids.

        Raises:
            ShapeError: ids that are not int64 or of another shape, or a list.
            DataError: an id outside of the table. On a GPU, where looking would mean waiting, torch's own
                device-side assertion stops the program instead.
            ConfigError: lists with weights, pooled by `"max"`.
        """
        ids = self._checked(ids)
        try:
            vectors = self._pool(ids) if isinstance(ids, Jagged) else self._look_up(ids)
        except (IndexError, RuntimeError, DataError):
            self._refuse_ids_out_of_range(ids)
            raise
        self._add_penalty(ids)
        return vectors

    def lookup(self, ids: Tensor | Jagged) -> Tensor | Lookup:
        """Prepare what `forward` does, for `concatenate_lookups`, which reads several tables at once.

        Args:
            ids: `(batch,)` int64, or a `Jagged` of int64 ids.

        Returns:
            What to look up; the vectors themselves if this table has more to do than read rows, or has hooks.

        Raises:
            ShapeError: ids that are not int64 or of another shape.
            DataError: an id outside of the table, if the vectors are returned.
        """
        ids = self._checked(ids)
        lookup = None if has_hooks(self) else self._row_lookup(ids)
        if lookup is None:
            vectors: Tensor = self(ids)
            return vectors
        self._add_penalty(ids)
        return lookup

    def rows(self) -> Rows | None:
        """Return the weights, if the vector of an id is the row of its number; None if it takes more than that."""
        return None

    def penalty(self, ids: Tensor | Jagged) -> Tensor:
        """Return l2 · Σ‖e‖² / batch over the vectors of ids, which each lookup adds to the loss of its step.

        Args:
            ids: as in `forward`; lists count every id that they hold, whatever their weights.

        Returns:
            A scalar tensor, whose gradient is row-sparse.
        """
        ids = self._checked(ids)
        values = ids.values if isinstance(ids, Jagged) else ids
        return self._look_up(values).square().sum() * (self.l2 / max(len(ids), 1))

    def grow(self, num_ids: int) -> None:
        """Make room for new ids, keeping the vectors of all others.

        The parameters stay the same objects, and lose their gradients. Optimizers of `retrank.optim` that were built
        before continue: at their next step the new rows get the state that they have in a new optimizer. Others, such
        as `torch.optim.SparseAdam`, fail at that step: build them anew.

        Args:
            num_ids: the new number of ids.

        Raises:
            ConfigError: fewer ids than there are, or not a whole number.

        Example:
            >>> import torch, retrank as rr
            >>> table = rr.EmbeddingTable(10, 4)
            >>> optimizer = rr.optim.Adagrad(lr=0.1).build(table.named_parameters())
            >>> for num_ids in (10, 15):
            ...     table.grow(num_ids)
            ...     table(torch.arange(num_ids)).sum().backward()
            ...     optimizer.step()
            >>> optimizer.state[table.weight]["accumulator"].shape
            torch.Size([15, 4])
        """
        count = _as_int(num_ids)
        if count < self.num_ids:
            raise self._config_error(f"at least {self.num_ids} rows", str(num_ids))
        if count > self.num_ids:
            self._grow(count)
            self._num_ids = count
            self._remember_size()

    def extra_repr(self) -> str:
        """Describe the table within torch's module listing."""
        return f"'{self.name}', {self.num_ids}, {self.dim}, combiner='{self.combiner}'"

    @abstractmethod
    def _look_up(self, ids: Tensor) -> Tensor:
        """Return `(*ids.shape, dim)`, zeros for padding; fail for an id outside of the table."""

    @abstractmethod
    def _grow(self, num_ids: int) -> None:
        """Add the rows that ids below `num_ids` need."""

    def _row_lookup(self, ids: Tensor | Jagged) -> Lookup | None:
        """Return which rows make up the vectors of ids; None if that takes more than rows."""
        rows = self.rows()
        if rows is None or (isinstance(ids, Tensor) and ids.dim() != 1):
            return None
        return Lookup(rows.weight, ids, rows.pooling if isinstance(ids, Jagged) else "sum")

    def _pool(self, lists: Jagged) -> Tensor:
        return pool_vectors(self._look_up(lists.values), lists, self.combiner)

    def _in_range(self, ids: Tensor, inner: Tensor) -> Tensor:
        """Make an inner table fail, too, for ids that this table does not have."""
        return inner.masked_fill((ids < 0) | (ids >= self.num_ids), -1)

    def _checked(self, ids: Tensor | Jagged) -> Tensor | Jagged:
        """Return the ids, an array as a tensor."""
        ids = ids if isinstance(ids, Jagged) else as_tensor(ids, "ids", f"table '{self.name}'")
        values = ids.values if isinstance(ids, Jagged) else ids
        if values.dtype != torch.int64 or values.dim() > (1 if isinstance(ids, Jagged) else 2) or values.dim() == 0:
            raise ShapeError(
                "int64 ids of shape (batch,) or (batch, length), or a Jagged of them",
                f"{values.dtype} of shape {tuple(values.shape)}",
                f"table '{self.name}'",
                "pass an id column of the batch",
            )
        return ids

    def _add_penalty(self, ids: Tensor | Jagged) -> None:
        if self.l2:
            add_penalty(partial(self.penalty, ids))

    def _refuse_ids_out_of_range(self, ids: Tensor | Jagged) -> None:
        values = ids.values if isinstance(ids, Jagged) else ids
        if values.device.type != "cpu":
            return
        outside = ((values < 0) | (values >= self.num_ids)).nonzero()
        if len(outside):
            place = outside[0]
            row = ids.row_index()[place[0]] if isinstance(ids, Jagged) else place[0]
            raise DataError(
                f"ids in [0, {self.num_ids})",
                str(int(values[tuple(place)])),
                f"table '{self.name}', row {int(row)}",
                "size the table by the schema of the column, or grow it",
            )

    def _remember_size(self) -> None:
        # The configuration rebuilds a table of this size, not of the size that the schema once had.
        rows = self.num_ids if self._schema is None else replace(self._schema, num_ids=self.num_ids)
        self._record(rows=rows, dim=self.dim, name=self.name)

    def _config_error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(expected, got, f"{type(self).__name__} '{self.name}'")


def _as_int(number: SupportsIndex) -> int:
    """Return a size as an int, whatever library it comes from; -1 if it is not a whole number."""
    try:
        return index(number)
    except TypeError:
        return -1


def _num_ids(schema: ColumnSchema) -> int:
    if schema.num_ids is None:
        raise ConfigError(
            "a column of ids", "a column of numbers", f"table of column '{schema.name}'", "feed numbers directly"
        )
    return schema.num_ids
