"""Transformed columns: made of what is there, with blanks for what is not, and errors in the caller's row numbers."""

from collections.abc import Sequence

import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch, Column
from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.features.kinds import Feature

__all__ = ["blank", "is_telling", "replace_rows", "take_rows", "transform_known", "transform_rows"]


def transform_rows(kind: Feature, name: str, values: pl.DataFrame, rows: Sequence[int] | None) -> Column:
    """Transform values that were picked out of a table.

    Args:
        kind: the feature.
        name: its name.
        values: `(n,)` rows of the columns that it reads, its own first; without nulls, unless the kind accepts them.
        rows: `(n,)` the row of each in the caller's table; None for a single query.

    Returns:
        `(n,)` transformed.

    Raises:
        DataError: a value that the kind refuses, with its row in the caller's table.
    """
    try:
        return kind.transform_rows(values, name)
    except DataError as error:
        place = _first_refused(kind, name, values)
        of = "of the query" if rows is None else f"of queries, row {rows[place]}"
        column = next((other for other in kind.other_columns if f"'{other}'" in error.where), values.columns[0])
        raise DataError(error.expected, error.got, f"column '{column}' {of}", error.fix) from error


def _first_refused(kind: Feature, name: str, values: pl.DataFrame) -> int:
    """Return the first value that is refused, whatever the kind says of rows: the end of the shortest refused head."""
    least, most = 0, len(values)  # values[:least] are fine, values[:most] are not
    while most - least > 1:
        middle = (least + most) // 2
        try:
            kind.transform_rows(values[:middle], name)
            least = middle
        except DataError:
            most = middle
    return least


def transform_known(kind: Feature, schema: ColumnSchema, values: pl.DataFrame) -> Column:
    """Transform stored columns; where they are null and the kind does not accept that, the result is blank.

    Args:
        kind: the feature.
        schema: of what it emits.
        values: `(n,)` rows of the columns that it reads.

    Returns:
        `(n,)` transformed.

    Raises:
        DataError: a value that the kind refuses.
    """
    is_there = values.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    if kind.accepts_nulls or is_there.all():
        return kind.transform_rows(values, schema.name)
    there = torch.from_numpy(is_there.to_numpy(writable=True))
    made = kind.transform_rows(values.filter(is_there), schema.name) if bool(there.any()) else blank(schema, 0)
    return replace_rows(blank(schema, len(values)), made, there.nonzero()[:, 0])


def blank(schema: ColumnSchema, num_rows: int) -> Column:
    """Return rows that hold nothing: padding, empty lists, or zeros.

    Args:
        schema: of the column.
        num_rows: how many.
    """
    if schema.is_jagged:
        return Jagged.empty(num_rows)
    if schema.kind == "ids":
        return torch.zeros(num_rows, dtype=torch.int64)
    return torch.zeros(num_rows) if schema.width == 1 else torch.zeros(num_rows, schema.width)


def is_telling(column: Column, schema: ColumnSchema) -> Tensor:
    """Return `(n,)` bool, which rows hold more than padding and unknown keys; numbers always do.

    Args:
        column: `(n, ...)`.
        schema: of the column.
    """
    if schema.kind != "ids":
        return torch.ones(len(column), dtype=torch.bool)
    if isinstance(column, Tensor):
        return column >= NUM_SPECIAL_IDS
    telling = torch.zeros(len(column), dtype=torch.bool)
    telling[column.row_index()[column.values >= NUM_SPECIAL_IDS]] = True
    return telling


def take_rows(column: Column, rows: Tensor) -> Column:
    """Return some rows of a column.

    Args:
        column: `(n, ...)`.
        rows: `(m,)` int64.
    """
    return column.take(rows) if isinstance(column, Jagged) else column.index_select(0, rows)


def replace_rows(column: Column, others: Column, rows: Tensor) -> Column:
    """Return a column with some rows replaced.

    Args:
        column: `(n, ...)`.
        others: `(m, ...)` of the same kind.
        rows: `(m,)` int64 distinct rows of `column`.

    Returns:
        `(n, ...)`.
    """
    if isinstance(column, Tensor) and isinstance(others, Tensor):
        return column.index_copy(0, rows, others)
    source = torch.arange(len(column))
    source[rows] = len(column) + torch.arange(len(rows))
    both = Batch.concat([Batch({"column": _weighted(column, others)}), Batch({"column": _weighted(others, column)})])
    replaced: Column = both.take(source)["column"]
    return replaced


def _weighted(column: Column, other: Column) -> Column:
    """Give blank lists the weights that the others have."""
    assert isinstance(column, Jagged)
    assert isinstance(other, Jagged)
    if column.weights is None and other.weights is not None:
        return Jagged(column.values, column.offsets, torch.ones(len(column.values)))
    return column
