"""`FileSource`: Parquet or CSV files, read only as far as needed."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, final

import polars as pl

from retrank.core.errors import ConfigError, DataError
from retrank.data.checks import require_columns
from retrank.data.csv_types import SEPARATORS, Types, csv_types, reading, scan_csv
from retrank.data.partitions import partition_values
from retrank.data.regroup import regroup
from retrank.data.source import ROWS_PER_FRAME, Source, shard_range

__all__ = ["FileSource"]

_PARQUET: Final = (".parquet", ".pq")


@final
class FileSource(Source):
    """Parquet (`.parquet`, `.pq`) or CSV (`.csv`, `.tsv`) files as one `Source`, in sorted order of their names.

    Of Parquet files only the headers are read when it is made. CSV files say nothing of types, and are looked through:
    a column is text if one of its numbers has leading zeros or a plus sign, since `007` and `7` are two keys, and holds
    dates or times if all of its values are written so in ISO 8601, with or without a zone. Folders that a glob passes
    through and that are named `day=1`, as Spark and Hive write them, are columns unless the files have them.

    Args:
        path: a file, or a glob such as `"events/*.parquet"` (`**` goes into folders).
        schema: types of CSV and folder columns that must not be guessed, e.g. `{"zip_code": pl.String}`.

    Raises:
        DataError: nothing matches, a file is unreadable, the files' columns differ, or a value is not of its type.
        ConfigError: a `schema` for columns of Parquet files, which say their own.

    Example:
        >>> import tempfile, polars as pl, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pl.DataFrame({"a": ["1", "2"]}).write_csv(f"{folder}/1.csv")
        ...     pl.DataFrame({"a": ["3", "04"]}).write_csv(f"{folder}/2.csv")
        ...     table = rr.data.FileSource(f"{folder}/*.csv")
        ...     table.num_rows, table.frame()["a"].to_list()
        (4, ['1', '2', '3', '04'])
    """

    def __init__(self, path: str | Path, *, schema: Types | None = None) -> None:
        self._where, given = f"'{path}'", dict(schema or {})
        self._files = _expand(path)
        folders = partition_values(path, self._files, given)
        own = {name: dtype for name, dtype in given.items() if name not in folders.columns}
        is_csv = self._files[0].suffix.lower() in SEPARATORS
        if own and not is_csv:
            fix = "cast after reading instead"
            raise ConfigError("a schema for CSV only", f"one for {list(own)} of {self._where}", "schema", fix)
        with reading(self._files[0]):
            self._types = dict(_scan(self._files[0], {}).collect_schema())
        require_columns(self._types, own, str(self._files[0]))
        for file in self._files[1:]:
            self._check_names(file)
        if is_csv:
            self._types, self.__dict__["_counts"] = csv_types(self._files, own)  # the cached property has no more to do
        for file in self._files[1:]:
            self._check_types(file)
        folders = folders.drop(name for name in folders.columns if name in self._types)
        self._columns = {**self._types, **folders.schema}
        self._constants = {
            file: [pl.lit(value, folders.schema[name]).alias(name) for name, value in row.items()]
            for file, row in zip(self._files, folders.iter_rows(named=True), strict=folders.width > 0)
        }

    @property
    def columns(self) -> Mapping[str, pl.DataType]:
        """Column name to type, in order."""
        return self._columns

    @property
    def files(self) -> list[Path]:
        """The files, in order."""
        return list(self._files)

    @property
    def num_rows(self) -> int:
        """The number of rows in all files (from the footers of Parquet; CSV files are scanned once)."""
        return sum(self._counts)

    def name_of(self, row: int) -> str:
        """Say in which file a row is, and where in it if there are several; see `Source.name_of`."""
        if len(self._files) == 1:
            return str(self._files[0])
        first = 0
        for file, count in zip(self._files, self._counts, strict=True):
            if row < first + count:
                return f"{self._where} (row {row - first} of {file})"
            first += count
        return self._where

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read all files; see `Source.frame`."""
        names = self._names(columns, self._where)
        parts = []
        for file in self._files:
            with reading(file):
                parts.append(self._table(file).select(names).collect())
        return pl.concat(parts)

    def frames(
        self,
        rows: int = ROWS_PER_FRAME,
        columns: Sequence[str] | None = None,
        *,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
    ) -> Iterator[pl.DataFrame]:
        """Read the rows of a shard piece by piece, each file in one pass; see `Source.frames`."""
        if rows < 1 or start < 0:
            raise ConfigError("rows >= 1 and start >= 0", f"rows={rows}, start={start}", "frames")
        first, last = shard_range(self.num_rows, shard)
        pieces = self._pieces(self._names(columns, self._where), first + start, last, rows)
        return regroup(pieces, size=rows, concat=pl.concat)

    def _pieces(self, names: list[str], first: int, last: int, rows: int) -> Iterator[pl.DataFrame]:
        offset = 0
        for file, count in zip(self._files, self._counts, strict=True):
            begin, end = max(first - offset, 0), min(last - offset, count)
            offset += count
            if begin < end:
                part = self._table(file).select(names).slice(begin, end - begin)
                with reading(file):
                    yield from part.collect_batches(chunk_size=rows, maintain_order=True, lazy=True)

    @cached_property
    def _counts(self) -> list[int]:
        counts = []
        for file in self._files:
            with reading(file):
                counts.append(int(self._table(file).select(pl.len()).collect().item()))
        return counts

    def _table(self, file: Path) -> pl.LazyFrame:
        return _scan(file, self._types).with_columns(self._constants.get(file, []))

    def _check_names(self, file: Path) -> None:
        if (file.suffix.lower() in SEPARATORS) != (self._files[0].suffix.lower() in SEPARATORS):
            raise DataError("files of one kind", f"{self._files[0]} and {file}", self._where, "narrow the pattern")
        with reading(file):
            columns = _scan(file, {}).collect_schema()
        require_columns(columns, self._types, str(file))
        require_columns(self._types, columns, f"{self._files[0]} (beside {file})")

    def _check_types(self, file: Path) -> None:
        with reading(file):
            columns = _scan(file, self._types).collect_schema()
        for name, dtype in self._types.items():
            if columns[name] != dtype:
                raise DataError(
                    f"{dtype}, as in {self._files[0]}",
                    str(columns[name]),
                    f"column '{name}' of {file}",
                    "cast the column in one of the files",
                )


def _expand(path: str | Path) -> list[Path]:
    whole = Path(path).expanduser()
    if whole.is_file():
        return [whole]
    if whole.is_dir():
        raise DataError("a file or a glob", "a folder", str(path), f"name its files, e.g. '{path}/**/*.parquet'")
    if not glob.has_magic(str(path)):
        raise DataError("a file", "no such file", str(path))
    matches = glob.glob(str(whole), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    files = sorted(Path(match) for match in matches if Path(match).is_file())
    if not files:
        raise DataError("at least one matching file", "none", f"glob '{path}'")
    return files


def _scan(file: Path, types: Types) -> pl.LazyFrame:
    suffix = file.suffix.lower()
    if suffix in _PARQUET:
        return pl.scan_parquet(file, glob=False, hive_partitioning=False)
    if suffix not in SEPARATORS:
        known = ", ".join((*_PARQUET, *SEPARATORS))
        raise DataError(f"one of {known}", f"'{file.suffix}'", str(file), "convert it or narrow the pattern")
    return scan_csv(file, types)
