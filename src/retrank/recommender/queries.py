"""What is known of each query: its features, kept for the next time it asks."""

from collections.abc import Sequence
from typing import final

import polars as pl

from retrank.core.errors import DataError
from retrank.data.checks import require_columns, require_no_nulls

__all__ = ["QueryTable"]


@final
class QueryTable:
    """The feature columns of known queries, the last row of each.

    Args:
        table: one or more rows a query; the last one counts.
        query: the column of query keys.
        columns: the feature columns a query needs, its key included.

    Raises:
        DataError: a column is missing, or a query key is null.

    Example:
        >>> import polars as pl, retrank as rr
        >>> known = rr.recommender.QueryTable(pl.DataFrame({"user": ["a"], "age": [30]}), "user", ["user", "age"])
        >>> table, complete = known.complete(pl.DataFrame({"user": ["a", "new"]}))
        >>> table["age"].to_list(), complete.to_list()
        ([30, None], [True, False])
    """

    def __init__(self, table: pl.DataFrame, query: str, columns: Sequence[str]) -> None:
        self.query = query
        self.columns = list(dict.fromkeys([query, *columns]))
        require_columns(table, self.columns, "queries")
        require_no_nulls(table, [query], "queries")
        self.table = table.select(self.columns).unique(query, keep="last", maintain_order=True)

    def complete(self, asked: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Add what is known to what was asked.

        Args:
            asked: one row a query with its key; feature columns that it brings win over what is known.

        Returns:
            The asked queries with all feature columns, in their order, and whether each has a value in every one.

        Raises:
            DataError: the key column is missing, holds nulls or is of another type than the known keys.
        """
        require_columns(asked, [self.query], "queries")
        require_no_nulls(asked, [self.query], "queries")
        if asked[self.query].dtype != self.table[self.query].dtype:
            raise DataError(
                f"keys of type {self.table[self.query].dtype}",
                str(asked[self.query].dtype),
                f"column '{self.query}' of queries",
                "give keys of the type of the training table",
            )
        brought = [name for name in self.columns if name in asked.columns]
        joined = asked.select(brought).join(
            self.table, on=self.query, how="left", suffix=" known", maintain_order="left"
        )
        known = [pl.coalesce(name, f"{name} known").alias(name) for name in brought if name != self.query]
        table = joined.with_columns(known).select(self.columns)
        complete = table.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        return table, complete
