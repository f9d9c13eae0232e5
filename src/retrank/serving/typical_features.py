"""`typical_features`: what a visitor could be like of whom nothing is known."""

from typing import Any, Final

import polars as pl

from retrank.core.plain_json import to_json
from retrank.recommender.recommender import Recommender

__all__ = ["typical_features"]

_SAMPLE: Final = 10_000  # queries that are looked at


def typical_features(recommender: Recommender) -> dict[str, dict[str, Any]]:
    """Describe the features of queries that are single values.

    Args:
        recommender: whose queries.

    Returns:
        For each column its `type`, and as `typical` the median of numbers and what is most common of others; null if
        the first queries all lack it.
    """
    table = recommender.queries.stored_table.head(_SAMPLE)
    return {
        name: {"type": str(dtype), "typical": to_json(_typical(table[name])) if name in table.columns else None}
        for name, dtype in recommender.queries.column_types.items()
        if not dtype.is_nested()
    }


def _typical(column: pl.Series) -> Any:
    values = column.drop_nulls()
    if values.dtype.is_numeric() and len(values):
        return values.sort()[len(values) // 2]  # one of the values, so that it is of their type
    counts = values.value_counts(sort=True)
    return counts.filter(pl.col("count") == pl.col("count").max())[values.name].min() if len(counts) else None
