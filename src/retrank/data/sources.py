"""Anything tabular as a `Source`: data frames of any library, Parquet and CSV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, cast, runtime_checkable

import polars as pl

from retrank.core.errors import ConfigError, DataError
from retrank.data.csv_types import Types
from retrank.data.file_source import FileSource
from retrank.data.frame_source import FrameSource
from retrank.data.source import Source

__all__ = ["ArrowCapsule", "FileSource", "FrameSource", "Source", "TableLike", "frame", "is_pandas", "like", "source"]


@runtime_checkable
class ArrowCapsule(Protocol):
    """A table of any library that speaks the Arrow PyCapsule interface: pandas, pyarrow, DuckDB results..."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule of an Arrow stream."""
        ...


TableLike: TypeAlias = Source | pl.DataFrame | pl.LazyFrame | ArrowCapsule | str | Path
"""What every function that takes a table accepts; one that returns a table gives pandas for pandas, else polars."""


def source(table: TableLike, *, schema: Types | None = None) -> Source:
    """Make a `Source` of anything tabular.

    Args:
        table: a data frame of any library with the Arrow PyCapsule interface, a polars `LazyFrame` (collected at once),
            the path or glob of Parquet or CSV files (read when needed), or a `Source` (returned as it is).
        schema: types of columns of CSV files that must not be guessed; see `FileSource`.

    Returns:
        The source.

    Raises:
        DataError: not a table, or one that cannot be read.
        ConfigError: a `schema` for a table that says its own types.

    Example:
        >>> import polars as pl, retrank as rr
        >>> rr.data.source(pl.DataFrame({"user_id": ["a", "b"]})).num_rows
        2
    """
    if schema and not isinstance(table, str | Path):
        fix = "cast the columns instead"
        raise ConfigError("a schema for CSV files only", f"one for a {type(table).__name__}", "schema", fix)
    match table:
        case Source():
            return table
        case str() | Path():
            return FileSource(table, schema=schema)
        case pl.DataFrame():
            return FrameSource(table)
        case pl.LazyFrame():
            return FrameSource(_collected(table))
        case ArrowCapsule():
            return FrameSource(_converted(table))
    raise DataError(
        "a data frame, a path or a glob",
        type(table).__name__,
        "table",
        "convert it first, e.g. with polars.DataFrame(table)",
    )


def frame(table: TableLike, columns: Sequence[str] | None = None, *, schema: Types | None = None) -> pl.DataFrame:
    """Read anything tabular into memory.

    Args:
        table: see `source`.
        columns: the columns to read, in this order; all by default.
        schema: types of columns of CSV files that must not be guessed; see `FileSource`.

    Returns:
        A polars table.

    Raises:
        DataError: not a table, one that cannot be read, or a named column that is missing or nested.
        ConfigError: a `schema` for a table that says its own types.

    Example:
        >>> import polars as pl, retrank as rr
        >>> rr.data.frame(pl.LazyFrame({"a": [1], "b": [2]}), ["b"]).columns
        ['b']
    """
    return source(table, schema=schema).frame(columns)


def like(table: object, result: pl.DataFrame) -> pl.DataFrame:
    """Return a result as the caller has tables: in pandas if one of pandas was given, else in polars.

    Every public function that takes a table and returns one does this with what it returns. Other libraries read a
    polars table without a copy, through the Arrow PyCapsule interface.

    Args:
        table: what the caller gave.
        result: what was made of it.

    Returns:
        The result; a pandas one has a new index.
    """
    return cast("pl.DataFrame", result.to_pandas()) if is_pandas(table) else result


def is_pandas(value: object) -> bool:
    """Say whether something is a data frame or a series of pandas, which need not be installed.

    Args:
        value: anything.
    """
    return any(
        base.__module__.partition(".")[0] == "pandas" and base.__name__ in ("DataFrame", "Series")
        for base in type(value).__mro__
    )


def _collected(table: pl.LazyFrame) -> pl.DataFrame:
    try:
        return table.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            "a lazy frame that can be collected", f"{type(error).__name__}: {error}", "LazyFrame"
        ) from error


def _converted(table: ArrowCapsule) -> pl.DataFrame:
    try:
        return pl.DataFrame(table)
    except Exception as error:  # every library raises its own kind
        raise DataError(
            "a table that converts to Arrow",
            f"{type(error).__name__}: {error}",
            f"a {type(table).__module__.partition('.')[0]} {type(table).__name__}",
            "give every column one type",
        ) from error
