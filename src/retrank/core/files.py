"""Files that are whole or absent: atomic writes, checksums, manifests."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from retrank.core.errors import StorageError

__all__ = [
    "MANIFEST",
    "atomic_directory",
    "ensure_replaceable",
    "read_json",
    "read_manifest",
    "recover_directory",
    "sha256",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_text",
]

MANIFEST: Final = "manifest.json"
"""The file of a directory that lists its other files."""


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file so that it holds either the old or the new content, never a part.

    Args:
        path: the file; its folder is made if missing.
        content: the whole new content.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "a.txt")
        ...     rr.core.files.write_bytes(file, b"whole")
        ...     file.read_bytes()
        b'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text as `write_bytes` does.

    Args:
        path: the file.
        content: the whole new content.
    """
    write_bytes(path, content.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented and with keys in the given order, as `write_bytes` does.

    Args:
        path: the file.
        content: dicts, lists, strings, numbers, booleans and None; NaN is refused.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        What it holds.

    Raises:
        StorageError: the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError("a JSON file", f"{type(error).__name__}: {error}", str(path), "write it anew") from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Fill a directory that appears under its name only when it is complete.

    Args:
        path: where it shall stand; an older directory there, which must have a manifest, is replaced as a whole at
            the end.

    Yields:
        An empty directory beside `path` to write into; on an error it is removed and `path` stays as it was.

    Raises:
        StorageError: `path` holds something else than what this package wrote, see `ensure_replaceable`.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with rr.core.files.atomic_directory(f"{folder}/bundle") as draft:
        ...         rr.core.files.write_text(draft / "a.txt", "done")
        ...     pathlib.Path(folder, "bundle", "a.txt").read_text()
        'done'
    """
    ensure_replaceable(path)
    path = Path(path).resolve()  # a link stays, and what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.draft-"))
    draft.chmod(0o777 & ~_umask())
    try:
        yield draft
        _publish(draft)
        _replace_directory(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def ensure_replaceable(path: str | Path) -> None:
    """Refuse to write a directory where that would delete anything that this package did not write.

    Long computations call it before they begin, so that they do not fail when they save.

    Args:
        path: where a directory shall stand: nothing, an empty directory or one with a manifest. What the manifest
            lists is not checked, so that a damaged directory can be written anew.

    Raises:
        StorageError: `path` is a file, the current directory or a parent of it, or a directory of other files.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rr.core.files.ensure_replaceable(f"{folder}/new")
        ...     rr.core.files.write_text(f"{folder}/letter.txt", "precious")
        ...     rr.core.files.ensure_replaceable(folder)
        Traceback (most recent call last):
        retrank.core.errors.StorageError: ...
    """
    place = Path(path).resolve()
    if not place.exists():
        return
    if not place.is_dir():
        found = "a file"
    elif Path.cwd().is_relative_to(place):
        found = "the current directory or a parent of it"
    elif any(place.iterdir()) and not _is_ours(place):
        found = "a directory of other files"
    else:
        return
    raise StorageError(
        "nothing, an empty directory or one that retrank wrote", found, str(path), "name another directory"
    )


def _is_ours(directory: Path) -> bool:
    try:
        payload = _parts(directory)[0]
    except StorageError:
        return False
    return isinstance(payload, dict) and any(str(payload.get(key)).startswith("retrank") for key in ("format", "kind"))


def _replace_directory(draft: Path, path: Path) -> None:
    if not path.exists():
        draft.rename(path)
        return
    old = draft.with_name(draft.name.replace("draft", "old"))
    path.rename(old)  # readers that find neither see an error, never a mixture
    draft.rename(path)
    shutil.rmtree(old)


def recover_directory(path: str | Path) -> None:
    """Put back the older directory if a process died between the two renames of `atomic_directory`.

    Args:
        path: the directory's name; nothing happens if it exists or nothing was left behind.
    """
    path = Path(path)
    left = sorted(path.parent.glob(f".{path.name}.old-*")) if path.parent.exists() else []
    if left and not path.exists():
        left[-1].rename(path)


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


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Check every file of a directory against its manifest.

    Args:
        directory: what `write_manifest` completed.

    Returns:
        The manifest's payload.

    Raises:
        StorageError: the manifest or a file is missing, changed, cut short or was not there when it was written.
    """
    directory = Path(directory)
    recover_directory(directory)
    payload, files, digest = _parts(directory)
    if digest != _digest({"payload": payload, "files": files}):
        raise StorageError(
            "an unchanged manifest", "another SHA-256", str(directory / MANIFEST), "restore the directory"
        )
    here = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} - {MANIFEST}
    for name in sorted(here ^ files.keys()):
        state = "a file that the manifest does not list" if name in here else "no such file"
        raise StorageError("the files of the manifest", state, str(directory / name), "restore the directory")
    for name, entry in files.items():
        size = (directory / name).stat().st_size
        if size != entry["size"] or sha256(directory / name) != entry["sha256"]:
            raise StorageError(
                f"{entry['size']} bytes with SHA-256 {entry['sha256'][:12]}…",
                f"{size} bytes, other content",
                str(directory / name),
                "the file is damaged or half written: restore the directory",
            )
    return payload


def _parts(directory: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], str]:
    """Read the payload, the files and the digest of a manifest, of the right types but not compared with anything."""
    manifest = read_json(directory / MANIFEST)
    match manifest:
        case {"payload": dict(payload), "files": dict(files), "sha256": str(digest)} if all(
            isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
            for entry in files.values()
        ):
            return payload, files, digest
    raise StorageError("a manifest of files", "other JSON", str(directory / MANIFEST), "write the directory anew")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _publish(directory: Path) -> None:
    """Bring a draft to the disk, readable for whom the umask says whoever wrote its files."""
    mask = _umask()
    for path in directory.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
