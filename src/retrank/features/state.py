"""What a feature learned, and tables as Parquet files."""

import io
from pathlib import Path
from typing import Any, NamedTuple, final

import polars as pl

from retrank.core.errors import StorageError
from retrank.core.files import write_bytes

__all__ = ["State", "read_frame", "write_frame"]


@final
class State(NamedTuple):
    """What a feature learned.

    Args:
        values: JSON-able values by name.
        frames: tables by name, for what is too large for JSON.
    """

    values: dict[str, Any]
    frames: dict[str, pl.DataFrame]


def write_frame(path: str | Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file, atomically.

    Args:
        path: the file.
        frame: its content.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def read_frame(path: str | Path) -> pl.DataFrame:
    """Read a Parquet file.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        return pl.read_parquet(Path(path).read_bytes())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError("a Parquet file", f"{type(error).__name__}: {error}", str(path)) from error
