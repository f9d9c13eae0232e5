"""What all saved indexes share: a manifest that names the format, and the keys in a Parquet file."""

from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import StorageError
from retrank.core.parquet import parse_parquet, write_parquet
from retrank.core.snapshots import Snapshot
from retrank.core.tensor_files import parse_tensors, write_tensors
from retrank.core.values import built_from
from retrank.index.keys import RawKeys, raw_keys

__all__ = [
    "KEYS_FILE",
    "check_format",
    "key_series",
    "read_embeddings",
    "read_keys",
    "write_embeddings",
    "write_keys",
]

KEYS_FILE: Final = "keys.parquet"
"""Holds the column `key`, one row a candidate."""


def check_format(snapshot: Snapshot, expected: dict[str, Any]) -> None:
    """Check that a directory has a format.

    Args:
        snapshot: what an index saved.
        expected: the payload of its manifest.

    Raises:
        StorageError: another format.
    """
    if snapshot.payload != expected:
        raise StorageError(
            str(expected),
            str(snapshot.payload),
            str(snapshot.directory),
            "load it with rr.index.load_index, or save it anew",
        )


def key_series(keys: RawKeys) -> pl.Series:
    """Make a column of keys.

    Args:
        keys: in row order.

    Returns:
        The column `key`, integers or strings.
    """
    if isinstance(keys, Tensor):
        return pl.Series("key", keys.cpu().numpy(), dtype=pl.Int64)
    return pl.Series("key", keys.tolist(), dtype=pl.String)


def write_keys(file: Path, keys: RawKeys, **columns: pl.Series) -> None:
    """Write the keys file.

    Args:
        file: in the draft of a directory.
        keys: in row order.
        columns: further columns by name.
    """
    write_parquet(file, pl.DataFrame([key_series(keys), *(series.alias(name) for name, series in columns.items())]))


def read_keys(snapshot: Snapshot) -> tuple[RawKeys, pl.DataFrame]:
    """Read the keys file.

    Args:
        snapshot: the directory.

    Returns:
        The keys in row order, and the whole table with any further columns.

    Raises:
        StorageError: not a table with keys.
    """
    where = snapshot.where(KEYS_FILE)
    table = parse_parquet(snapshot.read(KEYS_FILE), where)
    with built_from(where):
        return raw_keys(table["key"], len(table)), table


def write_embeddings(file: Path, embeddings: Tensor) -> None:
    """Write embeddings as they are.

    Args:
        file: a safetensors file.
        embeddings: `(num_candidates, dim)`.
    """
    write_tensors(file, {"embeddings": embeddings.cpu().contiguous()})


def read_embeddings(snapshot: Snapshot, name: str) -> Tensor:
    """Read what `write_embeddings` wrote.

    Args:
        snapshot: the directory.
        name: a safetensors file in it.

    Returns:
        `(num_candidates, dim)` float32 on the CPU.

    Raises:
        StorageError: the file is missing or holds something else.
    """
    where = snapshot.where(name)
    found = parse_tensors(snapshot.read(name), where)
    embeddings = found.get("embeddings")
    if embeddings is None or len(found) > 1 or embeddings.dtype != torch.float32 or embeddings.dim() != 2:
        got = {name: f"{tensor.dtype} of shape {tuple(tensor.shape)}" for name, tensor in found.items()}
        raise StorageError("float32 'embeddings' of shape (rows, dim)", str(got)[:200], where, "save the index anew")
    return embeddings
