"""Summaries of whole tables: the first step of fitting, on one machine or on many."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from retrank.core.errors import DataError
from retrank.core.working import Working
from retrank.data.checks import require_columns
from retrank.data.rows import rows_from
from retrank.data.source import shard_range
from retrank.data.sources import TableLike, source
from retrank.features.kinds import Feature
from retrank.features.statistics import Summary

__all__ = ["TableSummary", "column_of", "columns_of", "summarize_table"]

_ROWS: Final = 2**20


@final
@dataclass(frozen=True, eq=False)
class TableSummary:
    """What some rows of a table teach a feature space.

    Args:
        num_rows: how many rows.
        features: the statistics of each feature by name; none if there are no rows.
    """

    num_rows: int
    features: Mapping[str, Summary]

    def merge(self, other: "TableSummary") -> "TableSummary":
        """Return the summary of the rows of both.

        Args:
            other: the summary of other rows, for the same features.

        Raises:
            DataError: the parts have columns of different types.
        """
        if not self.num_rows or not other.num_rows:
            return other if not self.num_rows else self
        merged = {}
        for name, summary in self.features.items():
            try:
                merged[name] = summary.merge(other.features[name])
            except DataError as error:
                raise DataError(error.expected, error.got, f"feature '{name}'") from None
        return TableSummary(self.num_rows + other.num_rows, merged)


def summarize_table(
    table: TableLike, features: Mapping[str, Feature], shard: tuple[int, int], work: Working
) -> TableSummary:
    """Summarize a shard of a table, piece by piece.

    Args:
        table: the rows.
        features: kind of each feature by name.
        shard: `(index, count)`: only part `index` of `count`.
        work: is told how many rows are read.

    Returns:
        The merged statistics.

    Raises:
        DataError: a missing column, or a value that a kind refuses, with its row in the whole table.
    """
    rows = source(table)
    columns = list(dict.fromkeys(column for name, feature in features.items() for column in columns_of(name, feature)))
    require_columns(rows.columns, columns)
    first_row = shard_range(rows.num_rows, shard)[0] if shard[0] else 0
    total = TableSummary(0, {})
    for piece in rows.frames(_ROWS, columns, shard=shard):
        with rows_from(first_row, rows):
            parts = {
                name: feature.summarize(piece.get_column(column_of(name, feature)))
                for name, feature in features.items()
            }
        total = total.merge(TableSummary(piece.height, parts))
        first_row += piece.height
        work.describe(f"learning from a table: {total.num_rows:,} rows are read")
    return total


def column_of(name: str, feature: Feature) -> str:
    """Return the column that a feature reads.

    Args:
        name: the feature's name.
        feature: its kind.

    Returns:
        The kind's own column, or the name.
    """
    return feature.column or name


def columns_of(name: str, feature: Feature) -> tuple[str, ...]:
    """Return all columns that a feature reads, that of `column_of` first.

    Args:
        name: the feature's name.
        feature: its kind.
    """
    return (column_of(name, feature), *feature.other_columns)
