"""Tables as Parquet files."""

import io
from pathlib import Path

import polars as pl

from retrank.core.files import storage_errors, write_bytes
from retrank.core.parquet_counts import check_counts
from retrank.core.values import built_from

__all__ = ["parse_parquet", "read_parquet", "write_parquet"]


def write_parquet(path: str | Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file, atomically.

    Args:
        path: the file.
        frame: its content.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def read_parquet(path: str | Path) -> pl.DataFrame:
    """Read a Parquet file.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        StorageError: the file is missing or damaged.
    """
    with storage_errors(path):
        content = Path(path).read_bytes()
    return parse_parquet(content, str(path))


def parse_parquet(content: bytes, where: str) -> pl.DataFrame:
    """Read the content of a Parquet file.

    Args:
        content: of the file.
        where: the file, for messages.

    Returns:
        The table.

    Raises:
        StorageError: the content is damaged.
    """
    check_counts(content, where)
    with built_from(where):
        return pl.read_parquet(content)
