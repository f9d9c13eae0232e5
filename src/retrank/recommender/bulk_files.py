"""Files of lists: their parts, and how these become one file."""

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, final

import polars as pl

from retrank.core.errors import ConfigError, StorageError
from retrank.core.files import atomic_file, write_bytes
from retrank.core.parquet import write_parquet

__all__ = ["BulkFormat", "format_of"]

_ROW_GROUP: Final = 2**18


class BulkFormat(ABC):
    """A kind of file."""

    suffix: ClassVar[str]
    """The end of its name."""

    @abstractmethod
    def write(self, lists: pl.DataFrame, part: Path) -> None:
        """Write a part, whole or not at all.

        Args:
            lists: its rows.
            part: the file.
        """

    @abstractmethod
    def join(self, parts: Sequence[Path], out: Path) -> None:
        """Make one file of all parts, whole or not at all, in little memory.

        Args:
            parts: in order, at least one.
            out: the file, which may be there already.
        """


@final
class _Parquet(BulkFormat):
    suffix = ".parquet"

    def write(self, lists: pl.DataFrame, part: Path) -> None:
        write_parquet(part, lists)

    def join(self, parts: Sequence[Path], out: Path) -> None:
        with atomic_file(out) as draft:
            try:
                pl.scan_parquet(list(parts), glob=False).sink_parquet(draft, row_group_size=_ROW_GROUP)
            except pl.exceptions.PolarsError as error:
                raise StorageError("a file that can be written", str(error), str(out), "check the disk") from error


@final
class _Csv(BulkFormat):
    suffix = ".csv"

    def write(self, lists: pl.DataFrame, part: Path) -> None:
        content = io.BytesIO()
        lists.write_csv(content, include_header=int(part.stem) == 0)
        write_bytes(part, content.getvalue())

    def join(self, parts: Sequence[Path], out: Path) -> None:
        _append(parts, out)


@final
class _Jsonl(BulkFormat):
    suffix = ".jsonl"

    def write(self, lists: pl.DataFrame, part: Path) -> None:
        content = io.BytesIO()
        lists.write_ndjson(content)
        write_bytes(part, content.getvalue())

    def join(self, parts: Sequence[Path], out: Path) -> None:
        _append(parts, out)


_FORMATS: Final = {kind.suffix: kind for kind in (_Parquet(), _Csv(), _Jsonl())}


def format_of(out: Path) -> BulkFormat:
    """Return how a file is written.

    Args:
        out: its name.

    Raises:
        ConfigError: another kind.
    """
    kind = _FORMATS.get(out.suffix.lower())
    if kind is None:
        raise ConfigError(f"a file of {', '.join(_FORMATS)}", f"'{out.name}'", "out", "choose one of these endings")
    return kind


def _append(parts: Sequence[Path], out: Path) -> None:
    with atomic_file(out) as draft, draft.open("xb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
