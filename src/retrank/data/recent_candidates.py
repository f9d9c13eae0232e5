"""What a query did last: the past of every interaction, and the past as it stands now."""

import polars as pl

from retrank.core.errors import ConfigError
from retrank.data.checks import require_columns, require_no_nulls, require_time
from retrank.data.sources import TableLike, frame, like

__all__ = ["latest_candidates", "with_recent_candidates"]


def with_recent_candidates(
    table: TableLike, *, query: str, candidate: str, time: str, length: int, name: str = "recent"
) -> pl.DataFrame:
    """Give every interaction what its query had interacted with strictly before, so nothing of the future.

    Args:
        table: one row an interaction.
        query: the column of query keys.
        candidate: the column of candidate keys.
        time: the column of times. Interactions of one query at one time do not see each other, since what came first
            is not known; later ones see them in the order of their rows.
        length: at most this many, the most recent ones.
        name: of the new column.

    Returns:
        The table with a list column, oldest first; the first interaction of a query has an empty list. A table without
        rows gets the column, too. Of pandas if `table` is.

    Raises:
        ConfigError: the length is below 1, or the new column exists already.
        DataError: a column is missing or holds nulls.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aaba"), "song": list("xyxz"), "time": [1, 3, 1, 2]})
        >>> rr.data.with_recent_candidates(plays, query="user", candidate="song", time="time", length=2)[
        ...     "recent"].to_list()
        [[], ['x', 'z'], [], ['x']]
    """
    rows = _checked(table, query, candidate, time, length)
    if name in rows.columns:
        raise ConfigError("a new column name", f"'{name}' exists", "with_recent_candidates")
    order = rows.select(pl.arg_sort_by(query, time, maintain_order=True)).to_series()
    columns = {"query": query, "candidate": candidate, "time": time}
    ordered = rows.select(pl.col(column).alias(role) for role, column in columns.items())[order]
    # Places count on by one, and skip `length` where a new query begins: no window reaches back into another query.
    length = min(length, max(len(rows), 1))
    queries_before = (pl.col("query") != pl.col("query").shift()).fill_null(value=False).cum_sum().cast(pl.Int64)
    places = pl.int_range(pl.len(), dtype=pl.Int64) + length * queries_before
    windows = ordered.select("candidate", place=places).rolling("place", period=f"{length}i", closed="left")
    lists = windows.agg("candidate")["candidate"]
    is_later = pl.any_horizontal(pl.col("query", "time") != pl.col("query", "time").shift()).fill_null(value=True)
    first = pl.when(is_later).then(pl.int_range(pl.len())).forward_fill()  # of those at one time, whose list all have
    lists = lists.gather(ordered.select(first).to_series()).gather(order.arg_sort())
    return like(table, rows.with_columns(lists.alias(name)))


def latest_candidates(
    table: TableLike, *, query: str, candidate: str, time: str, length: int, name: str = "recent"
) -> pl.DataFrame:
    """List the candidates that each query interacted with last, as `with_recent_candidates` would for its next one.

    Args:
        table: one row an interaction.
        query: the column of query keys.
        candidate: the column of candidate keys.
        time: the column of times; among equal times, rows count in their order.
        length: at most this many, the most recent ones.
        name: of the list column.

    Returns:
        One row a query: its key and the list, oldest first; of pandas if `table` is.

    Raises:
        ConfigError: the length is below 1, or the list column has the name of the query's.
        DataError: a column is missing or holds nulls.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aaba"), "song": list("xyxz"), "time": [1, 3, 1, 2]})
        >>> rr.data.latest_candidates(plays, query="user", candidate="song", time="time", length=2).rows()
        [('a', ['z', 'y']), ('b', ['x'])]
    """
    rows = _checked(table, query, candidate, time, length)
    if name == query:
        raise ConfigError("a new column name", f"'{name}' exists", "latest_candidates")
    ordered = rows.sort(time, maintain_order=True)
    lists = ordered.group_by(query, maintain_order=True).agg(pl.col(candidate).tail(length).alias(name))
    return like(table, lists.sort(query))


def _checked(table: TableLike, query: str, candidate: str, time: str, length: int) -> pl.DataFrame:
    if length < 1:
        raise ConfigError("length >= 1", str(length), "recent candidates")
    rows = frame(table)
    require_columns(rows, [query, candidate, time])
    require_no_nulls(rows, [query, candidate])
    if rows.height:  # otherwise there is nothing to list, and a file without rows says nothing of types
        require_time(rows, time)
    return rows
