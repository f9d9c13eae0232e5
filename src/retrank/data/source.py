"""`Source`: a table that can be read whole or in pieces, in shards, from any row."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from retrank.core.errors import ConfigError
from retrank.data.checks import require_columns, require_flat

__all__ = ["ROWS_PER_FRAME", "Source", "shard_range"]

ROWS_PER_FRAME: Final = 65_536
"""Rows read at a time when the reader does not say."""


class Source(ABC):
    """A table that need not fit in memory.

    Rows have a fixed order; every way of reading gives them in that order.
    """

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, pl.DataType]:
        """Column name to type, in order."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """The number of rows.

        Raises:
            ConfigError: the source cannot know before it is read.
        """

    @abstractmethod
    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the whole table.

        Args:
            columns: the columns to read, in this order; all by default.

        Returns:
            All rows.

        Raises:
            DataError: a named column is missing or nested, or a file is unreadable.
        """

    @abstractmethod
    def frames(
        self,
        rows: int = ROWS_PER_FRAME,
        columns: Sequence[str] | None = None,
        *,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
    ) -> Iterator[pl.DataFrame]:
        """Read a shard piece by piece.

        Args:
            rows: rows of each piece; only the last may have fewer.
            columns: the columns to read, in this order; all by default.
            shard: `(index, count)`: read only part `index` of `count` contiguous parts, whose sizes
                differ by at most one row.
            start: rows of the shard to leave out at its beginning (already read).

        Yields:
            Tables of `rows` rows; none for an empty shard.

        Raises:
            ConfigError: a size or shard that makes no sense.
            DataError: a named column is missing or nested, or a file is unreadable.
        """

    def name_of(self, row: int) -> str | None:  # noqa: ARG002 (a table in memory has no name)
        """Say what the table of a row is called, for messages.

        Args:
            row: the number of the row in the whole table.

        Returns:
            E.g. the file that holds the row; None for a table without a name.
        """
        return None

    def _names(self, columns: Sequence[str] | None, where: str) -> list[str]:
        """Return the columns to read; those asked for by name are checked."""
        if columns is None:
            return list(self.columns)
        require_columns(self.columns, columns, where)
        require_flat(self.columns, columns, where)
        return list(columns)


def shard_range(num_rows: int, shard: tuple[int, int]) -> tuple[int, int]:
    """Find the rows of one shard.

    Args:
        num_rows: rows of the table.
        shard: `(index, count)` with `0 <= index < count`.

    Returns:
        The first row and the row after the last.

    Raises:
        ConfigError: no such shard.

    Example:
        >>> import retrank as rr
        >>> [rr.data.shard_range(10, (index, 3)) for index in range(3)]
        [(0, 3), (3, 6), (6, 10)]
    """
    index, count = shard
    if not 0 <= index < count:
        raise ConfigError("(index, count) with 0 <= index < count", str(shard), "shard", "use e.g. (rank, world_size)")
    return num_rows * index // count, num_rows * (index + 1) // count
