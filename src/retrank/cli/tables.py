"""The tables of a run and of an evaluation: read, checked, joined."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, final

import polars as pl

from retrank.cli.config import DataConfig
from retrank.cli.histories import Histories
from retrank.core.errors import ConfigError, DataError
from retrank.data import FileSource, frame, require_columns, require_keys, require_rows, require_time, require_unique
from retrank.datasets import movielens_1m, movielens_20m, movielens_100k
from retrank.features import Catalogue

__all__ = ["ReadTables", "Tables", "digest", "read_interactions", "read_tables"]

_DATASETS: Final = {"movielens_100k": movielens_100k, "movielens_1m": movielens_1m, "movielens_20m": movielens_20m}
_TEXT_FILES: Final = (".csv", ".tsv")
_DTYPES: Final[dict[str, pl.DataType]] = {
    "text": pl.String(), "integer": pl.Int64(), "number": pl.Float64(), "boolean": pl.Boolean(), "date": pl.Date(),
    "datetime": pl.Datetime("us"),
}  # fmt: skip


@final
@dataclass(frozen=True)
class Tables:
    """The tables of a run.

    Args:
        train: interactions to learn from, with the columns of query and candidate, and of histories if asked for.
        test: interactions to test on.
        candidates: one row a candidate.
        queries: one row a query, with its features as they stand after training.
        catalogue: the candidates, transformed.
        histories: made the columns of histories.
        digest: digits that differ when the content of the tables that were read does.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    candidates: pl.DataFrame
    queries: pl.DataFrame
    catalogue: Catalogue
    histories: Histories
    digest: str


@final
class ReadTables(NamedTuple):
    """The tables that a configuration names.

    Attributes:
        interactions: with the columns of their query and candidate.
        candidates: one row a candidate.
        queries: one row a query, if there is a table of them.
        test: the keys of interactions to test on, if there is a table of them.
    """

    interactions: pl.DataFrame
    candidates: pl.DataFrame
    queries: pl.DataFrame | None = None
    test: pl.DataFrame | None = None


def read_tables(data: DataConfig) -> ReadTables:
    """Read what a configuration names.

    Args:
        data: its data part.

    Returns:
        The tables.

    Raises:
        DataError: a file cannot be read or has no rows, a key or time is missing, null, of a wrong type, or repeated in
            the table of candidates or queries, or that table lacks a key of the interactions.
        ConfigError: a type is declared of a column that no CSV file has.
    """
    if data.dataset is not None:
        loaded = _DATASETS[data.dataset](data.root)
        return ReadTables(loaded.interactions, loaded.candidates, loaded.queries)
    assert data.interactions is not None
    types, where = _Types(data), str(data.interactions)
    interactions = types.read(data.interactions)
    for name in (data.query, data.candidate):
        require_keys(interactions, name, where)
    if data.time is not None:
        require_time(interactions, data.time, where)
    test = None if data.test is None else _test(data.test, interactions.select(data.query, data.candidate))
    if data.candidates is None:
        used = [table.select(data.candidate) for table in (interactions, test) if table is not None]
        candidates = pl.concat(used).unique(maintain_order=True)
    else:
        candidates = _details(data.candidates, interactions, data.candidate, types)
    queries = None if data.queries is None else _details(data.queries, interactions, data.query, types)
    types.require_used()
    if data.candidates is not None:
        interactions = _joined(interactions, candidates, data.candidate, where, str(data.candidates))
        if test is not None:
            _require_details(test[data.candidate], candidates[data.candidate], str(data.test), str(data.candidates))
    if queries is not None:
        interactions = _joined(interactions, queries, data.query, where, str(data.queries))
    return ReadTables(interactions, candidates, queries, test)


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
        DataError: the file cannot be read or has no rows, a key column is missing, or a key is not of its type.
    """
    return _with_keys(path, keys, {})


@final
class _Types:
    """The declared types of columns, and which of them a CSV file had."""

    def __init__(self, data: DataConfig) -> None:
        self._declared = {name: _DTYPES[kind] for name, kind in data.types.items()}
        self._seen: dict[str, None] = {}
        self._used: set[str] = set()

    def of(self, path: Path) -> dict[str, pl.DataType]:
        """Return the types of those declared columns that a file has and does not say itself."""
        if not self._declared:
            return {}
        columns = FileSource(path).columns
        self._seen |= dict.fromkeys(columns)
        own = {name: dtype for name, dtype in self._declared.items() if name in columns and _is_text_file(path)}
        self._used |= own.keys()
        return own

    def read(self, path: Path) -> pl.DataFrame:
        """Read a table that has rows."""
        table = frame(path, schema=self.of(path))
        require_rows(table, str(path))
        return table

    def require_used(self) -> None:
        """Require that every declared column was in a CSV file."""
        for name in self._declared:
            if name not in self._used:
                near = difflib.get_close_matches(name, self._seen, n=1)
                fix = "Parquet files say their own types" if name in self._seen else None
                fix = f"did you mean '{near[0]}'?" if near and fix is None else fix
                raise ConfigError("columns of CSV files", f"'{name}'", "[data.types]", fix)


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


def _test(path: Path, keys: pl.DataFrame) -> pl.DataFrame:
    table = _with_keys(path, keys.schema, {}).select(keys.columns)
    for name in keys.columns:
        require_keys(table, name, str(path))
    return table


def _details(path: Path, interactions: pl.DataFrame, key: str, types: _Types) -> pl.DataFrame:
    table = _with_keys(path, {key: interactions.schema[key]}, types.of(path))
    require_keys(table, key, str(path))
    require_unique(table, key, str(path))
    return table


def _with_keys(path: Path, keys: Mapping[str, pl.DataType], types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    is_text = _is_text_file(path)
    schema = {**types, **dict.fromkeys(keys, pl.String())} if is_text else {}
    table = FileSource(path, schema=schema).frame()
    require_columns(table, keys, str(path))
    require_rows(table, str(path))
    return table.with_columns(_keys_as(table[name], dtype, str(path), is_text) for name, dtype in keys.items())


def _is_text_file(path: Path) -> bool:
    return path.suffix.lower() in _TEXT_FILES


def _joined(interactions: pl.DataFrame, details: pl.DataFrame, key: str, where: str, table: str) -> pl.DataFrame:
    new = [name for name in details.columns if name == key or name not in interactions.columns]
    if len(new) > 1:
        _require_details(interactions[key], details[key], where, table)
    return interactions.join(details.select(new), on=key, how="left", maintain_order="left")


def _require_details(keys: pl.Series, known: pl.Series, where: str, table: str) -> None:
    is_known = keys.is_in(known.implode())
    if is_known.all():
        return
    missing = keys.filter(~is_known)
    got = f"{missing[0]!r}, which is not there" + (
        "" if len(missing) == 1 else f" ({missing.n_unique():,} such keys in {len(missing):,} rows)"
    )
    row = int((~is_known).arg_max() or 0)
    fix = "add rows for them, or leave their interactions out"
    raise DataError(f"keys that {table} has", got, f"column '{keys.name}'", fix, row=row, table=where)


def _keys_as(keys: pl.Series, dtype: pl.DataType, where: str, is_text: bool) -> pl.Series:
    alike = keys.dtype == dtype or is_text or (keys.dtype.is_integer() and dtype.is_integer())
    cast = keys.cast(dtype, strict=False) if alike else keys
    lost = cast.is_null() & keys.is_not_null()
    if is_text and dtype.is_integer():  # '007' is another key than 7
        lost |= (cast.cast(pl.String) != keys).fill_null(value=False)
    if alike and not lost.any():
        return cast
    row = lost.arg_max() if alike else None
    raise DataError(
        f"keys of type {dtype}",
        str(keys.dtype) if row is None else repr(keys[row]),
        f"column '{keys.name}'{'' if row is None else f', row {row}'} of {where}",
        "give the key one type in all tables, e.g. as text: declare it in [data.types], or use Parquet files",
    )
