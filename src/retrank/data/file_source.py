"""`FileSource`: Parquet or CSV files, read only as far as needed."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final, final

import polars as pl

from retrank.core.errors import ConfigError, DataError
from retrank.data.checks import require_columns
from retrank.data.regroup import regroup
from retrank.data.source import ROWS_PER_FRAME, Source, shard_range

__all__ = ["FileSource"]

_PARQUET: Final = (".parquet", ".pq")
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_GUESS_ROWS: Final = 10_000


@final
class FileSource(Source):
    """Parquet (`.parquet`, `.pq`) or CSV (`.csv`, `.tsv`) files as one `Source`, in sorted order of their names.

    Only the files' headers are read when it is made. CSV types are guessed from the first 10,000 rows of the first.

    Args:
        path: a file, or a glob such as `"events/*.parquet"` (`**` goes into folders).
        types: types of CSV columns that must not be guessed, e.g. `{"zip_code": pl.String}`.

    Raises:
        DataError: nothing matches, a file is unreadable, or the files' columns differ.
        ConfigError: `types` for Parquet, which carries its own.

    Example:
        >>> import tempfile, polars as pl, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pl.DataFrame({"a": [1, 2]}).write_csv(f"{folder}/1.csv")
        ...     pl.DataFrame({"a": [3, 4]}).write_csv(f"{folder}/2.csv")
        ...     table = rr.data.FileSource(f"{folder}/*.csv")
        ...     table.num_rows, table.frame()["a"].to_list()
        (4, [1, 2, 3, 4])
    """

    def __init__(self, path: str | Path, *, types: Mapping[str, pl.DataType | type[pl.DataType]] | None = None) -> None:
        self._where = f"'{path}'"
        self._files = _expand(path)
        if types and any(file.suffix.lower() in _PARQUET for file in self._files):
            raise ConfigError("types for CSV only", f"types for {self._where}", "types", "cast after reading instead")
        with _reading(self._files[0]):
            first = _scan(self._files[0], dict(types or {})).collect_schema()
        require_columns(first, types or {}, str(self._files[0]))
        self._columns: dict[str, pl.DataType] = dict(first)
        for file in self._files[1:]:
            self._check_alike(file)

    @property
    def columns(self) -> Mapping[str, pl.DataType]:
        """Column name to type, in order."""
        return self._columns

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
            with _reading(file):
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
                with _reading(file):
                    yield from part.collect_batches(chunk_size=rows, maintain_order=True, lazy=True)

    @cached_property
    def _counts(self) -> list[int]:
        counts = []
        for file in self._files:
            with _reading(file):
                counts.append(int(self._table(file).select(pl.len()).collect().item()))
        return counts

    def _table(self, file: Path) -> pl.LazyFrame:
        return _scan(file, self._columns)

    def _check_alike(self, file: Path) -> None:
        with _reading(file):
            columns = self._table(file).collect_schema()
        require_columns(columns, self._columns, str(file))
        require_columns(self._columns, columns, f"{self._files[0]} (beside {file})")
        for name, dtype in self._columns.items():
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
        raise DataError("a file or a glob", "a folder", str(path), f"name its files, e.g. '{path}/*.parquet'")
    if not glob.has_magic(str(path)):
        raise DataError("a file", "no such file", str(path))
    matches = glob.glob(str(whole), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    files = sorted(Path(match) for match in matches if Path(match).is_file())
    if not files:
        raise DataError("at least one matching file", "none", f"glob '{path}'")
    return files


def _scan(file: Path, types: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.LazyFrame:
    suffix = file.suffix.lower()
    if suffix in _PARQUET:
        return pl.scan_parquet(file, glob=False)
    if suffix not in _SEPARATORS:
        known = ", ".join((*_PARQUET, *_SEPARATORS))
        raise DataError(f"one of {known}", f"'{file.suffix}'", str(file), "convert it or narrow the pattern")
    return pl.scan_csv(
        file,
        separator=_SEPARATORS[suffix],
        schema_overrides=dict(types),
        infer_schema_length=_GUESS_ROWS,
        glob=False,
    )


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what polars says about a file into a `DataError` that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        summary = str(error).strip().partition("\n")[0]
        raise DataError(
            "a readable table",
            f"{type(error).__name__}: {summary}",
            str(file),
            "the file is damaged, cut short or of another kind; for CSV whose types were guessed wrongly, pass types=",
        ) from error
