"""Lists to learn an order from: some rows of a query side by side."""

import warnings

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import ConfigError, DataError, RetrankWarning
from retrank.data.checks import require_keys, require_rows
from retrank.data.sources import TableLike, frame, like

__all__ = ["sample_lists"]


def sample_lists(table: TableLike, *, query: str, size: int, per_query: int, seed: int) -> pl.DataFrame:
    """Draw lists of a query's rows, without replacement within a list.

    A query with fewer than `size` rows can fill no list and is left out; a warning says how many there are.

    Args:
        table: one row an interaction, with its label.
        query: the column of query keys.
        size: rows of each list.
        per_query: lists of each query.
        seed: of the draws.

    Returns:
        One row a list, the lists of a query one after another and the queries in the order of the table: the query's
        key, and every other column as an array of `size` values. Of pandas if `table` is.

    Raises:
        ConfigError: a number out of range.
        DataError: an empty table, a bad key, a column of lists or structs, or no query with `size` rows.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"user": list("aabba"), "film": list("xyxzz"), "stars": [5, 3, 4, 1, 2]})
        >>> lists = rr.data.sample_lists(views, query="user", size=2, per_query=2, seed=0)
        >>> lists.rows()
        [('a', ['z', 'y'], [2, 3]), ('a', ['z', 'x'], [2, 5]), ('b', ['x', 'z'], [4, 1]), ('b', ['x', 'z'], [4, 1])]

    Source: `examples.movielens.sample_listwise` of TensorFlow Recommenders: the same draws from the same seed, that of
        a `numpy.random.RandomState`. There, queries with too few rows are left out without a word.
    """
    rows = frame(table)
    require_rows(rows)
    require_keys(rows, query)
    nested = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
    if nested:
        fix = "leave it out here, and look it up for each candidate"
        raise DataError("one value per row", str(rows.schema[nested[0]]), f"column '{nested[0]}', sample_lists", fix)
    if size < 1 or per_query < 1 or not 0 <= seed < 2**32:
        got = f"size={size}, per_query={per_query}, seed={seed}"
        raise ConfigError("size >= 1, per_query >= 1 and 0 <= seed < 2**32", got, "sample_lists")
    places = rows.select(query=query).with_row_index("row").group_by("query", maintain_order=True).agg("row")["row"]
    lengths = places.list.len().to_numpy().astype(np.int64)
    enough = lengths >= size
    if not enough.any():
        raise DataError(
            f"a query with {size} rows or more", f"{lengths.max()} at most", f"column '{query}', sample_lists"
        )
    if not enough.all():
        warnings.warn(
            f"{(~enough).sum()} of {len(enough)} queries have fewer than {size} rows and no list",
            RetrankWarning,
            stacklevel=2,
        )
    starts = np.cumsum(lengths) - lengths
    drawn = np.repeat(starts[enough], per_query)[:, None] + _draws(lengths[enough], size, per_query, seed)
    flat = rows[places.explode().to_numpy()[drawn.ravel()]]
    shape = (len(drawn), size)
    lists = flat.select(
        pl.col(query).gather_every(size) if name == query else pl.col(name).reshape(shape) for name in rows.columns
    )
    return like(table, lists)


def _draws(lengths: npt.NDArray[np.int64], size: int, per_query: int, seed: int) -> npt.NDArray[np.int64]:
    """Return `(queries * per_query, size)` places in each query's rows."""
    permutation = np.random.RandomState(seed).permutation  # its `choice` without replacement is the head of one
    heads = (permutation(length)[:size] for length in np.repeat(lengths, per_query).tolist())
    return np.fromiter(heads, dtype=(np.int64, size))
