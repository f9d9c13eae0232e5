"""Where a `Streaming` index reads its candidates from, again for every search: tables and safetensors files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.data.checks import require_columns
from retrank.data.sources import TableLike, source
from retrank.index.keys import KeysLike

__all__ = ["CandidateStream", "safetensors_stream", "table_stream"]

CandidateStream: TypeAlias = Callable[[], Iterable[tuple[Tensor, KeysLike | None]]]
"""Called for every pass; gives `(embeddings (rows, dim), keys)` in pieces of any size, always in the same order."""

_ROWS: Final = 65_536


def table_stream(
    table: TableLike, *, embedding: str = "embedding", key: str = "key", rows: int = _ROWS
) -> CandidateStream:
    """Read candidates from a table, piece by piece.

    Args:
        table: a `Source`, a path or glob of Parquet files, or a data frame; one row a candidate.
        embedding: the column of number lists, all of one length; narrowed to float32.
        key: the column of keys.
        rows: read at a time.

    Returns:
        What `Streaming` reads.

    Raises:
        DataError: a column is missing, or, when it is read, a list is null, of another length or not of numbers.

    Example:
        >>> import polars as pl, retrank as rr
        >>> table = pl.DataFrame({"key": ["a", "b"], "embedding": [[1.0, 0.0], [0.0, 2.0]]})
        >>> [(embeddings.tolist(), list(keys)) for embeddings, keys in rr.index.table_stream(table)()]
        [([[1.0, 0.0], [0.0, 2.0]], ['a', 'b'])]
    """
    candidates = source(table)
    require_columns(candidates.columns, [embedding, key], "the table of candidates")

    def stream() -> Iterator[tuple[Tensor, KeysLike | None]]:
        first = 0
        for frame in candidates.frames(rows, [embedding, key]):
            yield _vectors(frame[embedding], first), frame[key]
            first += len(frame)

    return stream


def safetensors_stream(
    files: str | Path | Sequence[str | Path],
    *,
    embeddings: str = "embeddings",
    keys: str | None = None,
    rows: int = _ROWS,
) -> CandidateStream:
    """Read candidates from safetensors files, which are mapped into memory and read piece by piece.

    Args:
        files: one file or several, in order.
        embeddings: the name of the `(candidates, dim)` tensor.
        keys: the name of the `(candidates,)` tensor of integer keys; row numbers by default.
        rows: read at a time.

    Returns:
        What `Streaming` reads.

    Raises:
        ConfigError: no file.
        StorageError: when it is read: a file or tensor is missing or damaged.
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    if not paths:
        raise ConfigError("at least one file", "none", "safetensors_stream", "name the files")

    def stream() -> Iterator[tuple[Tensor, KeysLike | None]]:
        for path in paths:
            with _opened(path) as file:
                vectors = file.get_slice(embeddings)
                names = None if keys is None else file.get_slice(keys)
                for first in range(0, vectors.get_shape()[0], rows):
                    part = slice(first, first + rows)
                    yield vectors[part], None if names is None else names[part]

    return stream


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise StorageError("a safetensors file with the named tensors", str(error), str(path), "check it") from error


def _vectors(column: pl.Series, first_row: int) -> Tensor:
    name = f"column '{column.name}'"
    if not isinstance(column.dtype, pl.List | pl.Array) or not column.dtype.inner.is_numeric():
        raise DataError("lists of numbers", str(column.dtype), name, "store one embedding a row")
    if column.null_count():
        raise DataError(
            "no nulls", "null", f"{name}, row {first_row + int(column.is_null().arg_max() or 0)}", "embed it"
        )
    lengths = (column.arr if isinstance(column.dtype, pl.Array) else column.list).len()
    other = lengths != lengths[0]
    if other.any():
        row = int(other.arg_max() or 0)
        raise DataError(f"{lengths[0]} numbers", f"{lengths[row]}", f"{name}, row {first_row + row}", "check the model")
    if lengths[0] == 0:
        return torch.empty(len(column), 0)
    values = column.explode().cast(pl.Float32)
    if values.null_count():
        row = first_row + int(values.is_null().arg_max() or 0) // lengths[0]
        raise DataError("no nulls", "null", f"{name}, row {row}", "check the model")
    return torch.from_numpy(values.to_numpy(writable=True)).view(len(column), -1)
