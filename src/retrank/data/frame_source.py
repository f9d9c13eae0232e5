"""`FrameSource`: a table that is already in memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import polars as pl

from retrank.core.errors import ConfigError
from retrank.data.source import ROWS_PER_FRAME, Source, shard_range

__all__ = ["FrameSource"]


@final
class FrameSource(Source):
    """A polars table in memory as a `Source`; pieces are views.

    Args:
        table: the rows.

    Example:
        >>> import polars as pl, retrank as rr
        >>> table = rr.data.FrameSource(pl.DataFrame({"a": [1, 2, 3]}))
        >>> [piece["a"].to_list() for piece in table.frames(rows=2)]
        [[1, 2], [3]]
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table

    @property
    def columns(self) -> Mapping[str, pl.DataType]:
        """Column name to type, in order."""
        return self._table.schema

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self._table.height

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the table, or only some of its columns; see `Source.frame`."""
        return self._table if columns is None else self._table.select(self._names(columns, "table"))

    def frames(
        self,
        rows: int = ROWS_PER_FRAME,
        columns: Sequence[str] | None = None,
        *,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
    ) -> Iterator[pl.DataFrame]:
        """Return the rows of a shard piece by piece; see `Source.frames`."""
        if rows < 1 or start < 0:
            raise ConfigError("rows >= 1 and start >= 0", f"rows={rows}, start={start}", "frames")
        first, last = shard_range(self.num_rows, shard)
        table = self.frame(columns)[min(first + start, last) : last]
        return table.iter_slices(rows) if table.height else iter(())
