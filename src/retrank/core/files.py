"""Single files that hold either their old or their new content, never a part."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrank.core.errors import StorageError
from retrank.core.values import format_json, parse_json

__all__ = ["atomic_file", "read_json", "sha256", "storage_errors", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Fill a file that appears under its name only when it is complete; its folder is made if missing.

    Args:
        path: where it shall stand; an older file there is replaced at the end.

    Yields:
        A path beside it to write to; on an error it is removed and `path` stays as it was.

    Raises:
        StorageError: the file cannot be written, e.g. because the disk is full.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with rr.core.files.atomic_file(f"{folder}/a.txt") as draft:
        ...         _ = draft.write_text("done")
        ...     pathlib.Path(folder, "a.txt").read_text()
        'done'
    """
    path = Path(path)
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")  # not longer than a long name
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file so that it holds either the old or the new content, never a part.

    Args:
        path: the file; its folder is made if missing.
        content: the whole new content.

    Raises:
        StorageError: the file cannot be written, e.g. because the disk is full.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "a.txt")
        ...     rr.core.files.write_bytes(file, b"whole")
        ...     file.read_bytes()
        b'whole'
    """
    with atomic_file(path) as draft, draft.open("xb") as file:  # with the mode that the umask leaves
        file.write(content)


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
        content: dicts, lists, strings, finite numbers, booleans and None.

    Raises:
        ConfigError: other content.
    """
    write_text(path, format_json(content, str(path)))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        What it holds.

    Raises:
        StorageError: the file is missing or not JSON.
    """
    with storage_errors(path):
        content = Path(path).read_bytes()
    return parse_json(content, str(path))


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
def storage_errors(path: str | Path) -> Iterator[None]:
    """Report what the operating system refuses as a `StorageError` that names the file.

    Args:
        path: the file, where the system names none.

    Yields:
        Nothing.

    Raises:
        StorageError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            "a file that can be read and written",
            f"{type(error).__name__}: {error.strerror or error}",
            str(path),
            "check the path, its permissions and the space on the disk",
        ) from error
