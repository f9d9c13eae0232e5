"""The tables of a run and of an evaluation: read, checked, joined."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import polars as pl

from retrank.cli.config import DataConfig
from retrank.core.errors import DataError
from retrank.data import FileSource, frame, require_columns, require_keys, require_time, require_unique
from retrank.datasets import movielens_1m, movielens_20m, movielens_100k
from retrank.features import Catalogue

__all__ = ["Tables", "digest", "read_interactions", "read_tables"]

_DATASETS: Final = {"movielens_100k": movielens_100k, "movielens_1m": movielens_1m, "movielens_20m": movielens_20m}
_TEXT_FILES: Final = (".csv", ".tsv")


@final
@dataclass(frozen=True)
class Tables:
    """The tables of a run.

    Args:
        train: interactions to learn from, with the columns of query and candidate, and of the past if asked for.
        test: each query's last interactions.
        candidates: one row a candidate.
        queries: one row a query, with its features as they stand after training.
        catalogue: the candidates, transformed.
        digest: digits that differ when the content of the tables that were read does.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    candidates: pl.DataFrame
    queries: pl.DataFrame
    catalogue: Catalogue
    digest: str


def read_tables(data: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame | None]:
    """Read what a configuration names.

    Args:
        data: its data part.

    Returns:
        The interactions with the columns of their query and candidate, the candidates, and the queries if there is a
        table of them.

    Raises:
        DataError: a file cannot be read, or a key or time is missing, null, of a wrong type, or repeated in the table
            of candidates or queries.
    """
    if data.dataset is not None:
        loaded = _DATASETS[data.dataset](data.root)
        return loaded.interactions, loaded.candidates, loaded.queries
    assert data.interactions is not None
    assert data.candidates is not None
    interactions = frame(data.interactions)
    for name in (data.query, data.candidate):
        require_keys(interactions, name, "interactions")
    require_time(interactions, data.time, "interactions")
    candidates = _details(data.candidates, interactions, data.candidate)
    queries = None if data.queries is None else _details(data.queries, interactions, data.query)
    interactions = _joined(interactions, candidates, data.candidate)
    return interactions if queries is None else _joined(interactions, queries, data.query), candidates, queries


def read_interactions(path: Path, keys: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Read interactions, with the key types of another table.

    A CSV file says nothing of types, and what is guessed may not be what a key was: `00001` is no number. Hence keys
    are read as text first.

    Args:
        path: a Parquet or CSV file, or a glob.
        keys: the name of each key column and its type.

    Returns:
        The table.

    Raises:
        DataError: the file cannot be read, a key column is missing, or a key is not of its type.
    """
    guessed = path.suffix.lower() in _TEXT_FILES
    table = FileSource(path, schema=dict.fromkeys(keys, pl.String) if guessed else None).frame()
    require_columns(table, keys, str(path))
    return table.with_columns(_keys_as(table[name], dtype, str(path), guessed) for name, dtype in keys.items())


def digest(*tables: pl.DataFrame | None) -> str:
    """Return twelve digits that differ when the tables do.

    Args:
        tables: in a fixed order; None for one that is not there.

    Returns:
        Hexadecimal digits.

    Example:
        >>> import polars as pl
        >>> from retrank.cli.tables import digest
        >>> digest(pl.DataFrame({"a": [1]})) == digest(pl.DataFrame({"a": [2]}))
        False
    """
    total = hashlib.sha256()
    for table in tables:
        total.update(repr(None if table is None else table.schema).encode())
        if table is not None:
            total.update(table.hash_rows().to_numpy().tobytes())
    return total.hexdigest()[:12]


def _details(path: Path, interactions: pl.DataFrame, key: str) -> pl.DataFrame:
    table = read_interactions(path, {key: interactions.schema[key]})
    require_keys(table, key, str(path))
    require_unique(table, key, str(path))
    return table


def _joined(interactions: pl.DataFrame, details: pl.DataFrame, key: str) -> pl.DataFrame:
    new = [name for name in details.columns if name == key or name not in interactions.columns]
    return interactions.join(details.select(new), on=key, how="left", maintain_order="left")


def _keys_as(keys: pl.Series, dtype: pl.DataType, where: str, guessed: bool) -> pl.Series:
    alike = keys.dtype == dtype or guessed or (keys.dtype.is_integer() and dtype.is_integer())
    cast = keys.cast(dtype, strict=False) if alike else keys
    lost = cast.is_null() & keys.is_not_null()
    if alike and not lost.any():
        return cast
    row = lost.arg_max() if alike else None
    raise DataError(
        f"keys of type {dtype}",
        str(keys.dtype) if row is None else repr(keys[row]),
        f"column '{keys.name}'{'' if row is None else f', row {row}'} of {where}",
        "give the key one type in all tables, e.g. in Parquet files",
    )
