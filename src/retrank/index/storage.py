"""What all saved indexes share: a manifest that names the format, and the keys in a Parquet file."""

from pathlib import Path
from typing import Any, Final

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrank.core.errors import StorageError
from retrank.core.files import MANIFEST, read_json, read_manifest, recover_directory
from retrank.index.keys import RawKeys, raw_keys

__all__ = [
    "KEYS_FILE",
    "check_format",
    "format_of",
    "key_series",
    "read_embeddings",
    "read_keys",
    "write_embeddings",
]

KEYS_FILE: Final = "keys.parquet"
"""Holds the column `key`, one row a candidate."""


def format_of(directory: str | Path) -> str:
    """Read which format a directory claims to have; its files are not checked yet.

    Args:
        directory: what an index saved.

    Returns:
        The name of the format, e.g. `"retrank.index.exact"`.

    Raises:
        StorageError: the manifest is missing or is none of an index.
    """
    recover_directory(directory)
    manifest = read_json(Path(directory) / MANIFEST)
    try:
        return str(manifest["payload"]["format"])
    except (KeyError, TypeError) as error:
        raise StorageError("a saved index", "another directory", str(directory), "check the path") from error


def check_format(directory: str | Path, expected: dict[str, Any]) -> None:
    """Check every file of a directory, and that it has a format.

    Args:
        directory: what an index saved.
        expected: the payload of its manifest.

    Raises:
        StorageError: files missing or damaged, or another format.
    """
    payload = read_manifest(directory)
    if payload != expected:
        raise StorageError(
            str(expected), str(payload), str(directory), "load it with rr.index.load_index, or save it anew"
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


def read_keys(directory: str | Path) -> tuple[RawKeys, pl.DataFrame]:
    """Read the keys file.

    Args:
        directory: a directory whose files have been checked.

    Returns:
        The keys in row order, and the whole table with any further columns.

    Raises:
        StorageError: not a table with keys.
    """
    file = Path(directory) / KEYS_FILE
    try:
        table = pl.read_parquet(file, glob=False)
        return raw_keys(table["key"], len(table)), table
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StorageError("a column of distinct keys", str(error), str(file), "save the index anew") from error


def write_embeddings(file: Path, embeddings: Tensor) -> None:
    """Write embeddings as they are.

    Args:
        file: a safetensors file.
        embeddings: `(num_candidates, dim)`.
    """
    save_file({"embeddings": embeddings.cpu().contiguous()}, file)


def read_embeddings(file: Path) -> Tensor:
    """Read what `write_embeddings` wrote.

    Args:
        file: a safetensors file.

    Returns:
        `(num_candidates, dim)` on the CPU.

    Raises:
        StorageError: the file is missing or holds something else.
    """
    try:
        return load_file(file)["embeddings"]
    except (OSError, KeyError, SafetensorError) as error:
        raise StorageError("safetensors", str(error), str(file), "save the index anew") from error
