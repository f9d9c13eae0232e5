"""`Loader`: batches of columns that fit in memory."""

from collections.abc import Iterator, Mapping
from typing import final

import torch

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, DataError
from retrank.core.seeds import generator
from retrank.data.position import Position
from retrank.data.transfer import transfer

__all__ = ["Loader"]


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
        ConfigError: a batch size below 1, or one that with `drop_last` leaves no batch.
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
        if batch_size < 1:
            raise ConfigError("at least 1", str(batch_size), "batch_size", "give a positive number of rows")
        if len(columns) == 0:
            raise DataError("at least one row", "none", "Loader", "check the filter that made the table")
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

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        size = self._batch_size
        starts = range(first * size, len(self) * size, size)
        if not self._shuffle:
            yield from (self._columns[start : start + size] for start in starts)
            return
        order = torch.randperm(self.num_rows, generator=generator(self._seed, "shuffle", epoch))
        order = order.to(self._columns.device)
        yield from (self._columns.take(order[start : start + size]) for start in starts)
