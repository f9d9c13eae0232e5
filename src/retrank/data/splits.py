"""Split a table into train and test rows: at random, at a point in time, or some rows of each query."""

import math
from datetime import date, datetime

import numpy as np
import polars as pl

from retrank.core.errors import ConfigError, DataError
from retrank.data.checks import require_keys, require_rows, require_time
from retrank.data.sources import TableLike, frame, like

__all__ = ["leave_last_split", "leave_random_split", "random_split", "time_split"]


def random_split(table: TableLike, *, test_size: int | float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows at random.

    Args:
        table: the rows.
        test_size: rows to test on, or the fraction of all rows (rounded to whole rows).
        seed: of `numpy.random.default_rng(seed).permutation(rows)`; the last `test_size` of it are test rows.

    Returns:
        The train and the test table, both in the order of the permutation; of pandas if `table` is.

    Raises:
        ConfigError: a size that leaves one side empty.
        DataError: an empty table.

    Example:
        >>> import polars as pl, retrank as rr
        >>> train, test = rr.data.random_split(pl.DataFrame({"x": range(5)}), test_size=2, seed=42)
        >>> train["x"].to_list(), test["x"].to_list()
        ([4, 2, 3], [1, 0])
    """
    rows = frame(table)
    require_rows(rows)
    num_train = rows.height - _num_test(test_size, rows.height)
    order = np.random.default_rng(seed).permutation(rows.height)
    return like(table, rows[order[:num_train]]), like(table, rows[order[num_train:]])


def time_split(
    table: TableLike,
    *,
    time: str,
    test_size: int | float | None = None,
    cutoff: int | float | date | datetime | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows at one point in time for all: every test row is later than every train row.

    Args:
        table: the rows.
        time: the column of times: numbers, dates or datetimes.
        test_size: rows to test on, or the fraction of all rows; rows of the same time stay together, on the test side,
            which can therefore be larger.
        cutoff: the time of the first test row, instead of `test_size`.

    Returns:
        The train and the test table, both in the order of the table; of pandas if `table` is.

    Raises:
        ConfigError: both or neither of `test_size` and `cutoff`, or a size that leaves one side empty.
        DataError: an empty table, a bad time, or a cutoff that leaves one side empty.

    Example:
        >>> import polars as pl, retrank as rr
        >>> train, test = rr.data.time_split(pl.DataFrame({"t": [3, 1, 2, 3]}), time="t", test_size=1)
        >>> train["t"].to_list(), test["t"].to_list()
        ([1, 2], [3, 3])
    """
    rows = frame(table)
    require_rows(rows)
    require_time(rows, time)
    if (test_size is None) == (cutoff is None):
        raise ConfigError("test_size or cutoff", "both or neither", "time_split")
    first = rows[time].sort()[-_num_test(test_size, rows.height) :][:1] if test_size is not None else cutoff
    try:
        is_test = rows.select(pl.col(time) >= pl.lit(first)).to_series()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"a cutoff comparable with {rows.schema[time]}", repr(cutoff), f"column '{time}'") from error
    if is_test.all() or not is_test.any():
        raise DataError(
            "rows before and from the cutoff",
            f"all {rows.height} rows {'from' if is_test.any() else 'before'} it",
            f"column '{time}'",
        )
    return like(table, rows.filter(~is_test)), like(table, rows.filter(is_test))


def leave_last_split(
    table: TableLike, *, query: str, time: str, test_size: int | float = 1
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off each query's last rows.

    Rows of the same time count in the order of the table. A query always keeps at least one row to train on:
    one with a single row has none to test.

    Args:
        table: the rows.
        query: the column of query keys.
        time: the column of times: numbers, dates or datetimes.
        test_size: rows of each query to test on, or the fraction of each query's rows, rounded down, but at least one
            row.

    Returns:
        The train and the test table, both in the order of the table; of pandas if `table` is.

    Raises:
        ConfigError: a number of rows below 1, or a fraction that is not between 0 and 1.
        DataError: an empty table, a bad key or time, or no query with two rows.

    Example:
        >>> import polars as pl, retrank as rr
        >>> table = pl.DataFrame({"user_id": ["a", "b", "a", "a"], "t": [1, 1, 3, 2]})
        >>> train, test = rr.data.leave_last_split(table, query="user_id", time="t")
        >>> train.rows(), test.rows()
        ([('a', 1), ('b', 1), ('a', 2)], [('a', 3)])
    """
    rows = frame(table)
    require_rows(rows)
    require_keys(rows, query)
    require_time(rows, time)
    is_test = _last_of_each(rows[query], rows[time], test_size)
    return like(table, rows.filter(~is_test)), like(table, rows.filter(is_test))


def leave_random_split(
    table: TableLike, *, query: str, test_size: int | float, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off random rows of each query, for tables without times.

    A query always keeps at least one row to train on: one with a single row has none to test.

    Args:
        table: the rows.
        query: the column of query keys.
        test_size: rows of each query to test on, or the fraction of each query's rows, rounded down, but at least one
            row.
        seed: of `numpy.random.default_rng(seed).permutation(rows)`; of each query, the rows with the largest numbers in
            it are test rows.

    Returns:
        The train and the test table, both in the order of the table; of pandas if `table` is.

    Raises:
        ConfigError: a number of rows below 1, or a fraction that is not between 0 and 1.
        DataError: an empty table, a bad key, or no query with two rows.

    Example:
        >>> import polars as pl, retrank as rr
        >>> table = pl.DataFrame({"user_id": ["a", "b", "a", "a"], "song": ["x", "x", "y", "z"]})
        >>> train, test = rr.data.leave_random_split(table, query="user_id", test_size=1, seed=0)
        >>> train.rows(), test.rows()
        ([('a', 'x'), ('b', 'x'), ('a', 'y')], [('a', 'z')])
    """
    rows = frame(table)
    require_rows(rows)
    require_keys(rows, query)
    order = pl.Series(np.random.default_rng(seed).permutation(rows.height))
    is_test = _last_of_each(rows[query], order, test_size)
    return like(table, rows.filter(~is_test)), like(table, rows.filter(is_test))


def _last_of_each(queries: pl.Series, times: pl.Series, test_size: int | float) -> pl.Series:
    is_fraction = isinstance(test_size, float)
    if isinstance(test_size, bool) or not (0 < test_size < 1 if is_fraction else test_size >= 1):
        raise ConfigError("at least 1 row, or a fraction between 0 and 1", repr(test_size), "test_size")
    rows = pl.DataFrame([queries.alias("query"), times.alias("time")])
    sorted_rows = rows.with_row_index("row").sort("query", "time", "row")
    length = pl.len().over("query")
    wanted = (test_size * length + 1e-9).floor().clip(1) if is_fraction else pl.lit(test_size)
    is_last = pl.int_range(pl.len()).over("query") >= length - pl.min_horizontal(wanted, length - 1)
    is_test = sorted_rows.select("row", is_last=is_last).sort("row")["is_last"]
    if not is_test.any():
        fix = "use random_split or time_split"
        raise DataError("a query with two rows or more", "none", f"column '{queries.name}'", fix)
    return is_test


def _num_test(test_size: int | float, num_rows: int) -> int:
    is_fraction = isinstance(test_size, float)
    num_test = round(test_size * num_rows) if is_fraction and math.isfinite(test_size) else test_size
    if not 1 <= num_test < num_rows or (is_fraction and not 0 < test_size < 1):
        raise ConfigError(
            f"1 to {num_rows - 1} rows, or a fraction between 0 and 1 that gives as many",
            repr(test_size),
            "test_size",
            "leave rows on both sides",
        )
    return int(num_test)
