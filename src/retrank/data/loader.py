"""`Loader`: batches of columns that fit in memory."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import torch
from torch import Tensor

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.seeds import generator
from retrank.data.batches import require_batch_size
from retrank.data.position import Position
from retrank.data.transfer import transfer

__all__ = ["Loader"]

_NUM_SAMPLED: Final = 1024  # rows that stand for all when two tables are compared


@final
class Loader:
    """Batches of rows, an epoch for each `iter()`.

    Shuffling costs one permutation an epoch and one gather a column and batch; unshuffled batches are views.
    Epoch e has the order that `(seed, e)` gives, whatever was iterated before. An epoch that is left early is over:
    the next `iter()` starts the following one.

    Args:
        columns: all rows, on any device; batches are gathered there.
        batch_size: rows of a batch; the last may have fewer.
        shuffle: a new order every epoch.
        drop_last: leave out a last batch with fewer rows.
        seed: of the order.
        device: where the batches go; None leaves them where the columns are. The copy to a GPU is one batch ahead.

    Raises:
        ConfigError: a batch size that is no integer above 0, or one that with `drop_last` leaves no batch.
        DataError: no rows.

    Example:
        >>> import torch, retrank as rr
        >>> loader = rr.data.Loader(rr.Batch({"x": torch.arange(5)}), batch_size=2)
        >>> len(loader), [batch["x"].tolist() for batch in loader]
        (3, [[0, 1], [2, 3], [4]])
    """

    def __init__(
        self,
        columns: Batch,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        require_batch_size(batch_size)
        if len(columns) == 0:
            raise DataError("at least one row", "none", "Loader")
        if drop_last and len(columns) < batch_size:
            raise ConfigError(
                f"at most the {len(columns)} rows there are, with drop_last",
                str(batch_size),
                "batch_size",
                "use smaller batches or drop_last=False",
            )
        self._columns, self._batch_size = columns, batch_size
        self._shuffle, self._drop_last, self._seed, self._device = shuffle, drop_last, seed, device
        self._position = Position()

    @property
    def num_rows(self) -> int:
        """The rows of the data, also those that `drop_last` leaves out."""
        return len(self._columns)

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._batch_size

    @property
    def is_shuffled(self) -> bool:
        """Whether rows come in another order than that of the columns."""
        return self._shuffle

    @property
    def drops_rows(self) -> bool:
        """Whether `drop_last` leaves out rows."""
        return self._drop_last and len(self._columns) % self._batch_size > 0

    def __len__(self) -> int:
        """Return the batches in a whole epoch."""
        whole, rest = divmod(len(self._columns), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """Start an epoch; after `load_state_dict`, the rest of the epoch that was interrupted."""
        epoch, first = self._position.begin()
        return self._position.follow(transfer(self._batches(epoch, first), self._device), epoch, first)

    def state_dict(self) -> dict[str, int]:
        """Return the position: `{"epoch": epochs done, "batch": batches given in this one}`."""
        return self._position.state_dict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position.

        Args:
            state: what `state_dict` returned.

        Raises:
            ConfigError: it is anything else, or lies behind the end of an epoch.
        """
        self._position.load_state_dict(state, len(self))

    def describe(self) -> dict[str, Any]:
        """Return what the batches depend on, JSON-able: two loaders that differ here give different batches.

        Columns are compared by their dtype, shape and a digest of up to 1,024 rows spread evenly.
        """
        rows = torch.linspace(0, self.num_rows - 1, min(self.num_rows, _NUM_SAMPLED), dtype=torch.float64).long()
        sample = self._columns.take(rows.to(self._columns.device))
        return {
            "type": "Loader",
            "num_rows": self.num_rows,
            "batch_size": int(self.batch_size),
            "drop_last": self._drop_last,
            "shuffle": self._shuffle,
            "seed": self._seed if self._shuffle else None,
            "columns": {name: _described(column) for name, column in sample.items()},
        }

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        size = self._batch_size
        starts = range(first * size, len(self) * size, size)
        if not self._shuffle:
            yield from (self._columns[start : start + size] for start in starts)
            return
        order = torch.randperm(self.num_rows, generator=generator(self._seed, "shuffle", epoch))
        order = order.to(self._columns.device)
        yield from (self._columns.take(order[start : start + size]) for start in starts)


def _described(column: Column) -> dict[str, Any]:
    parts = [column.values, column.offsets, column.weights] if isinstance(column, Jagged) else [column]
    tensors = [part for part in parts if part is not None]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(_bytes(tensor))
    return {
        "dtype": [str(tensor.dtype) for tensor in tensors],
        "shape": list(tensors[0].shape[1:]),
        "sample": digest.hexdigest()[:16],
    }


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
