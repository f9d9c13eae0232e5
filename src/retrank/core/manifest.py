"""The manifest of a directory: its files with their sizes and checksums, and what the directory is."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, final

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from retrank.core.errors import StorageError
from retrank.core.files import sha256, write_json
from retrank.core.values import checked, parse_json

__all__ = ["MANIFEST", "Entry", "Manifest", "is_ours", "parse_manifest", "write_manifest"]

MANIFEST: Final = "manifest.json"
"""The file of a directory that lists its other files."""
LITTER: Final = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers leave behind; they are neither read nor missed."""


@final
@with_config(ConfigDict(extra="forbid"))
class Entry(TypedDict):
    """What a manifest says of a file."""

    size: int
    sha256: str


@with_config(ConfigDict(extra="forbid"))
class _Content(TypedDict):
    payload: dict[str, Any]
    files: dict[str, Entry]
    sha256: str


@final
class Manifest(NamedTuple):
    """A parsed manifest.

    Args:
        payload: what the directory is, e.g. its format and version.
        files: the entry of each file by its name in the directory, with `/` between folders.
    """

    payload: dict[str, Any]
    files: dict[str, Entry]


def write_manifest(directory: str | Path, payload: dict[str, Any]) -> None:
    """List every file of a directory with size and checksum, as its last file.

    Args:
        directory: a directory whose other files are complete.
        payload: JSON-able facts kept in the manifest, e.g. format and version.
    """
    directory = Path(directory)
    files = {
        file.relative_to(directory).as_posix(): {"size": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file != directory / MANIFEST
    }
    content = {"payload": payload, "files": files}
    write_json(directory / MANIFEST, {**content, "sha256": _digest(content)})


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Args:
        content: of the file.
        where: the file, for messages.

    Returns:
        The manifest; every name in it is that of a file within the directory.

    Raises:
        StorageError: not a manifest, or one whose own checksum is another.
    """
    found = checked(parse_json(content, where), _Content, where)
    if found["sha256"] != _digest({"payload": found["payload"], "files": found["files"]}):
        raise StorageError("an unchanged manifest", "another SHA-256", where, "restore the directory")
    for name, entry in found["files"].items():
        if not _is_inside(name) or entry["size"] < 0:
            raise StorageError(
                "files within the directory", f"{name!r} of {entry['size']} bytes", where, "restore the directory"
            )
    return Manifest(found["payload"], found["files"])


def is_ours(payload: dict[str, Any]) -> bool:
    """Tell whether this package wrote a manifest.

    Args:
        payload: of the manifest.

    Returns:
        Whether it names one of our formats.
    """
    return any(str(payload.get(key)).startswith("retrank") for key in ("format", "kind"))


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        name != ""
        and name.isprintable()
        and "/".join(parts) == name
        and not {"", ".", ".."} & set(parts)
        and not any(character in name for character in "\\:")
        and not name.startswith("/")
        and name != MANIFEST
    )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
