"""Folders such as `day=1`, as Spark and Hive write them: what their names say is a column."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl

from retrank.core.errors import DataError
from retrank.data.csv_types import Types, guessed_of_text

__all__ = ["partition_values"]

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str | Path, files: Sequence[Path], schema: Types) -> pl.DataFrame:
    """Read the values of partition columns from the names of folders.

    Args:
        path: a glob, whose files lie in folders named `column=value`; a file that is named itself has none.
        files: what it matches.
        schema: types that are not guessed.

    Returns:
        A row a file; integers, dates and times where all values of a column are.

    Raises:
        DataError: the files lie in folders of different columns, or a value is not of the type in the schema.

    Example:
        >>> from pathlib import Path
        >>> from retrank.data.partitions import partition_values
        >>> partition_values("**/*.csv", [Path("day=1/a.csv"), Path("day=2/a.csv")], {}).to_dicts()
        [{'day': 1}, {'day': 2}]
    """
    rows = [_values_of(file) if glob.has_magic(str(path)) else {} for file in files]
    for file, row in zip(files, rows, strict=True):
        if list(row) != list(rows[0]):
            fix = "narrow the pattern, or move the file"
            raise DataError(f"folders of {list(rows[0])}, as of {files[0]}", f"folders of {list(row)}", str(file), fix)
    return pl.DataFrame([_column(name, rows, files, schema) for name in rows[0]])


def _values_of(file: Path) -> dict[str, str | None]:
    pairs = [folder.split("=", 1) for folder in file.parts[:-1] if "=" in folder.strip("=")]
    return {unquote(name): None if value == _NULL else unquote(value) for name, value in pairs}


def _column(name: str, rows: Sequence[dict[str, str | None]], files: Sequence[Path], schema: Types) -> pl.Series:
    texts = pl.Series(name, [row[name] for row in rows], dtype=pl.String)
    if name not in schema:
        return guessed_of_text(texts)
    values = texts.cast(schema[name], strict=False)
    lost = values.is_null() & texts.is_not_null()
    if lost.any():
        place = int(lost.arg_max() or 0)
        raise DataError(f"a value of type {schema[name]}", repr(texts[place]), f"folder '{name}=' of {files[place]}")
    return values
