"""What is known of each query: its features, kept for the next time it asks."""

from collections.abc import Mapping
from typing import final

import polars as pl

from retrank.core.errors import DataError
from retrank.data.checks import require_columns, require_no_nulls
from retrank.data.keys import KeyType, as_keys, key_type

__all__ = ["QueryTable"]


@final
class QueryTable:
    """The feature columns of known queries, the last row of each.

    Args:
        table: one or more rows a query; the last one counts.
        query: the column of query keys.
        columns: the feature columns that a query needs, and whether each may be null.

    Raises:
        DataError: a column is missing, or a query key is null.

    Example:
        >>> import polars as pl, retrank as rr
        >>> known = rr.recommender.QueryTable(pl.DataFrame({"user": ["a"], "age": [30]}), "user", {"age": False})
        >>> table, usable = known.complete(pl.DataFrame({"user": ["a", "new"]}))
        >>> table["age"].to_list(), usable.to_list()
        ([30, None], [True, False])
    """

    def __init__(self, table: pl.DataFrame, query: str, columns: Mapping[str, bool]) -> None:
        self.query = query
        self.columns = {name: may_be_null for name, may_be_null in columns.items() if name != query}
        require_columns(table, [query, *self.columns], "queries")
        keys = as_keys(table[query], None, "error")
        self._key_type: KeyType = key_type(keys)
        self.table = table.select(keys, *self.columns).unique(query, keep="last", maintain_order=True)

    def complete(self, asked: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Add what is known to what was asked.

        Args:
            asked: one row a query with its key; feature columns that it brings win over what is known.

        Returns:
            The asked queries with all feature columns, in their order, and whether each can be embedded: it is known
            or brings a feature, and lacks nothing that may not be null.

        Raises:
            DataError: the key column is missing, holds nulls or is of another type than the known keys; a feature
                column that cannot be cast to the known type.
        """
        require_columns(asked, [self.query], "queries")
        require_no_nulls(asked, [self.query], "queries")
        brought = {name: asked[name] for name in self.columns if name in asked.columns}
        columns = [as_keys(asked[self.query], self._key_type, "error"), *map(self._typed, brought.values())]
        known = self.table.with_columns(pl.lit(True).alias("is known"))
        joined = pl.DataFrame(columns).join(known, on=self.query, how="left", suffix=" known", maintain_order="left")
        table = joined.with_columns(pl.coalesce(name, f"{name} known").alias(name) for name in brought)
        brings = pl.any_horizontal(pl.lit(False), *(column.is_not_null() for column in brought.values()))
        needed = [pl.col(name).is_not_null() for name, may_be_null in self.columns.items() if not may_be_null]
        usable = (pl.col("is known").fill_null(False) | brings) & pl.all_horizontal(pl.lit(True), *needed)
        return table.select(self.query, *self.columns), table.select(usable.alias("usable")).to_series()

    def _typed(self, column: pl.Series) -> pl.Series:
        dtype = self.table.schema[column.name]
        try:
            return column.cast(dtype)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"values of type {dtype}", str(column.dtype), f"column '{column.name}' of queries", "cast the column"
            ) from error
