"""Batches of a table through a transformation, from memory or piece by piece."""

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl
import torch

from retrank.core.batch import Batch
from retrank.core.working import Working
from retrank.data.batches import Batches
from retrank.data.checks import require_columns
from retrank.data.loader import Loader
from retrank.data.rows import rows_from
from retrank.data.sources import TableLike, source
from retrank.data.streaming import StreamingLoader

__all__ = ["make_loader", "transform_whole"]

_SHUFFLE_WINDOW: Final = 2**18


def make_loader(
    table: TableLike,
    columns: Sequence[str],
    transform: Callable[[pl.DataFrame], Batch],
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    drop_last: bool,
    streaming: bool,
    device: torch.device | str | None,
) -> Batches:
    """Make batches of transformed rows; see `FeatureSpace.loader`.

    Args:
        table: the rows.
        columns: what `transform` reads.
        transform: from rows to a batch.
        batch_size: rows per batch.
        shuffle: whether every epoch has a new order.
        seed: of the order.
        drop_last: whether a last batch with fewer rows is left out.
        streaming: whether rows are read and transformed piece by piece.
        device: where the batches go.
    """
    if not streaming:
        rows = transform_whole(table, columns, transform)
        return Loader(rows, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, device=device)
    read = source(table)
    require_columns(read.columns, columns)
    window = max(_SHUFFLE_WINDOW, 16 * batch_size) if shuffle else 0
    return StreamingLoader(
        read, transform, batch_size, shuffle_window=window, seed=seed, drop_last=drop_last, device=device
    )


def transform_whole(table: TableLike, columns: Sequence[str], transform: Callable[[pl.DataFrame], Batch]) -> Batch:
    """Transform all rows of a table; errors name the file of a row.

    Args:
        table: the rows.
        columns: what `transform` reads.
        transform: from all rows to a batch.
    """
    with Working("transforming a table") as work:
        if isinstance(table, pl.DataFrame):
            work.describe(f"transforming {table.height:,} rows")
            return transform(table)
        read = source(table)
        with rows_from(0, read):
            return transform(read.frame(columns))
