"""`ColumnMembers`: which values candidates have in a column, as numbers that can be counted."""

from typing import final

import polars as pl

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged

__all__ = ["ColumnMembers"]


@final
class ColumnMembers:
    """Numbers the values of columns, each column when it is first asked for.

    Args:
        table: the candidates.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.column_members import ColumnMembers
        >>> songs = pl.DataFrame({"genres": [["rock", "pop"], ["pop", "pop"], None]})
        >>> ColumnMembers(songs).of("genres").to_lists()
        [[0, 1], [0], []]
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table
        self._found: dict[str, Jagged] = {}  # threads may find the same twice, which is the same

    def of(self, column: str) -> Jagged:
        """Return the values of each candidate.

        Args:
            column: its name.

        Returns:
            A row per candidate of distinct ascending int64 numbers of values: of a column of lists, of all members.
            Null and NaN have none.

        Raises:
            DataError: no such column, or one of values that cannot be counted.
        """
        found = self._found.get(column)
        if found is None:
            found = self._found[column] = self._numbered(column)
        return found

    def _numbered(self, name: str) -> Jagged:
        if name not in self._table.columns:
            raise DataError(f"one of the columns {self._table.columns}", repr(name), "caps of Rerank")
        column, owners = self._table[name], pl.arange(0, self._table.height, eager=True)
        if isinstance(column.dtype, pl.List | pl.Array):
            lists = pl.DataFrame({"owner": owners, "value": column.cast(pl.List(column.dtype.inner))})
            members = lists.filter(pl.col("value").list.len() > 0).explode("value")
            owners, column = members["owner"], members["value"]
        if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
            raise DataError("a column of values, or of lists of values", str(column.dtype), f"caps of '{name}'")
        if column.dtype.is_float():
            column = column.fill_nan(None)
        values = column if column.dtype == pl.String else column.to_physical()
        numbers = (values.cast(pl.Int8) if values.dtype == pl.Boolean else values).rank("dense")
        pairs = pl.DataFrame({"owner": owners, "number": numbers.cast(pl.Int64) - 1}).drop_nulls().unique()
        pairs = pairs.sort("owner", "number")
        owner = pairs["owner"].cast(pl.Int64).to_torch()
        return Jagged.group(owner, pairs["number"].to_torch(), self._table.height)
