"""`StreamingLoader`: batches of a table that need not fit in memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import polars as pl
import torch

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, DataError
from retrank.core.seeds import generator
from retrank.data.background import background
from retrank.data.batches import require_batch_size
from retrank.data.position import Position
from retrank.data.regroup import regroup
from retrank.data.rows import rows_from
from retrank.data.source import shard_range
from retrank.data.sources import TableLike
from retrank.data.sources import source as as_source
from retrank.data.transfer import transfer

__all__ = ["StreamingLoader"]


@final
class StreamingLoader:
    """Batches of rows that are read, transformed and shuffled in a background thread, an epoch for each `iter()`.

    Rows are shuffled within windows of `shuffle_window` rows, whose borders move every epoch, so that memory stays
    bounded; files sorted by something that the label depends on want a window larger than its runs. Epoch e has the
    order that `(seed, e)` gives. A position in its middle is reached by reading from its window on, not from the
    beginning. An epoch that is left early is over: the next `iter()` starts the following one.

    Args:
        source: the table: files, or anything that `source` takes.
        transform: from a piece of the table to its columns, row by row, e.g. `space.transform`; runs in the thread.
        batch_size: rows of a batch; the last may have fewer.
        shuffle_window: rows shuffled together; 0 keeps the order.
        drop_last: leave out a last batch with fewer rows.
        seed: of the order.
        shard: `(index, count)`: only part `index` of `count`, e.g. `(rank, world_size)`; see `Source.frames`.
        device: where the batches go; None leaves them on the CPU. The copy to a GPU is one batch ahead.

    Raises:
        ConfigError: a size below its minimum, or no such shard.

    Example:
        >>> import torch, polars as pl, retrank as rr
        >>> columns = lambda piece: rr.Batch({"x": torch.from_numpy(piece["x"].to_numpy(writable=True))})
        >>> loader = rr.data.StreamingLoader(pl.DataFrame({"x": range(5)}), columns, batch_size=2)
        >>> len(loader), [batch["x"].tolist() for batch in loader]
        (3, [[0, 1], [2, 3], [4]])
    """

    def __init__(
        self,
        source: TableLike,
        transform: Callable[[pl.DataFrame], Batch],
        batch_size: int,
        *,
        shuffle_window: int = 0,
        drop_last: bool = False,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        device: torch.device | str | None = None,
    ) -> None:
        require_batch_size(batch_size)
        if shuffle_window < 0:
            raise ConfigError("at least 0", str(shuffle_window), "shuffle_window")
        shard_range(0, shard)
        self._source, self._transform, self._batch_size = as_source(source), transform, batch_size
        self._window, self._drop_last, self._seed = shuffle_window, drop_last, seed
        self._shard, self._device = shard, device
        self._position = Position()

    @property
    def num_rows(self) -> int:
        """The rows of the shard, also those that `drop_last` leaves out.

        Raises:
            ConfigError: the source cannot know.
        """
        first, last = shard_range(self._source.num_rows, self._shard)
        return last - first

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._batch_size

    @property
    def is_shuffled(self) -> bool:
        """Whether rows come in another order than that of the table."""
        return self._window > 0

    @property
    def drops_rows(self) -> bool:
        """Whether `drop_last` leaves out rows; True where the source cannot know."""
        try:
            return self._drop_last and self.num_rows % self._batch_size > 0
        except ConfigError:
            return True

    def __len__(self) -> int:
        """Return the batches in a whole epoch.

        Raises:
            ConfigError: the source cannot know its rows (also a `TypeError`, which `list(loader)` passes over).
        """
        try:
            whole, rest = divmod(self.num_rows, self._batch_size)
        except ConfigError as error:
            raise _UnknownLengthError(error.expected, error.got, error.where, error.fix) from error
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """Start an epoch; after `load_state_dict`, the rest of the epoch that was interrupted."""
        epoch, first = self._position.begin()
        batches = background(self._batches(epoch, first))
        return self._position.follow(transfer(batches, self._device), epoch, first)

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
        try:
            num_batches = len(self)
        except _UnknownLengthError:
            num_batches = None
        self._position.load_state_dict(state, num_batches)

    def describe(self) -> dict[str, Any]:
        """Return what the batches depend on, JSON-able; of the table, only its columns are known before it is read."""
        return {
            "type": "StreamingLoader",
            "batch_size": int(self.batch_size),
            "drop_last": self._drop_last,
            "shuffle_window": self._window,
            "seed": self._seed if self._window else None,
            "shard": list(self._shard),
            "columns": {name: str(dtype) for name, dtype in self._source.columns.items()},
        }

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        row = first * self._batch_size
        is_empty = first == 0
        for batch in regroup(self._rows(epoch, row), size=self._batch_size, concat=Batch.concat):
            if len(batch) == self._batch_size or not self._drop_last:
                is_empty = False
                yield batch
        if is_empty:
            raise DataError(
                f"at least {self._batch_size if self._drop_last else 1} rows",
                "no batch in a whole epoch",
                f"shard {self._shard} of the table",
                "use smaller batches or fewer shards",
            )

    def _rows(self, epoch: int, row: int) -> Iterator[Batch]:
        """Read the rows of the epoch's order from number `row` on."""
        if self._window == 0:
            yield from self._pieces(row)
            return
        head = int(torch.randint(1, self._window + 1, (), generator=generator(self._seed, "border", epoch)))
        number = 0 if row < head else 1 + (row - head) // self._window
        start = 0 if number == 0 else head + (number - 1) * self._window
        windows = regroup(
            self._pieces(start),
            size=self._window,
            concat=Batch.concat,
            first=head if number == 0 else None,
        )
        skip = row - start
        for window in windows:
            order = torch.randperm(len(window), generator=generator(self._seed, "shuffle", epoch, number))
            yield window.take(order[skip:])
            number, skip = number + 1, 0

    def _pieces(self, start: int) -> Iterator[Batch]:
        first_row = start + (shard_range(self._source.num_rows, self._shard)[0] if self._shard[0] else 0)
        for piece in self._source.frames(shard=self._shard, start=start):
            with rows_from(first_row, self._source):
                columns = self._transform(piece)
            first_row += piece.height
            if len(columns) != piece.height:
                raise DataError(
                    f"a row for each of the {piece.height} rows read",
                    f"{len(columns)} rows",
                    "transform",
                    "filter the table before loading it",
                )
            yield columns


class _UnknownLengthError(ConfigError, TypeError):
    """`len()` of a loader whose source does not know its rows."""
