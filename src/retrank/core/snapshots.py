"""Reading a directory: one version of it, every byte checked, nothing else.

A directory may be replaced at any time. A reader opens the directory and all files of its manifest at once; from then
on it holds one version, whatever is published or removed meanwhile, since open files outlive their names. What it
opens are regular files that the manifest lists: no links, devices or pipes, and nothing outside of the directory.
"""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, TypeVar, final

from retrank.core.directories import standing_version
from retrank.core.errors import StorageError
from retrank.core.files import storage_errors
from retrank.core.manifest import LITTER, MANIFEST, Entry, Manifest, parse_manifest
from retrank.core.values import parse_json

__all__ = ["Snapshot", "read_directory", "read_manifest"]

Value = TypeVar("Value")

_ATTEMPTS: Final = 50
_SMALL: Final = 2**16  # bytes of a file that is read at once, so that few files are held open
_MAX_MANIFEST: Final = 2**26
_HAS_DESCRIPTORS: Final = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


@final
class Snapshot:
    """The files of one version of a directory, held open.

    Args:
        directory: where it stood, for messages.
        manifest: its files.
        files: each of them, open.
        raw_manifest: the content of the manifest itself.
    """

    def __init__(self, directory: Path, manifest: Manifest, files: Mapping[str, BinaryIO], raw_manifest: bytes) -> None:
        self.directory, self.payload = directory, manifest.payload
        self._manifest, self._files, self._raw = manifest, files, raw_manifest
        self._checked: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The files, without the manifest."""
        return list(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def where(self, name: str) -> str:
        """Name a file in messages.

        Args:
            name: of the file.

        Returns:
            Its path.
        """
        return str(self.directory / name)

    def open(self, name: str) -> BinaryIO:
        """Return a file whose content has been checked, at its start.

        Args:
            name: of a file of the manifest.

        Returns:
            The open file, which stays the snapshot's.

        Raises:
            StorageError: there is no such file, or it is damaged.
        """
        if name not in self._files:
            raise StorageError("a file of the manifest", "no such file", self.where(name), "restore the directory")
        file = self._files[name]
        if name not in self._checked:
            _check(file, self._manifest.files[name], self.where(name))
            self._checked.add(name)
        file.seek(0)
        return file

    def read(self, name: str) -> bytes:
        """Read a file and check its content.

        Args:
            name: of a file of the manifest.

        Returns:
            Its content.

        Raises:
            StorageError: there is no such file, or it is damaged.
        """
        with storage_errors(self.where(name)):
            return self.open(name).read()

    def json(self, name: str) -> Any:
        """Read a JSON file.

        Args:
            name: of a file of the manifest.

        Returns:
            What it holds.

        Raises:
            StorageError: there is no such file, it is damaged or not JSON.
        """
        return parse_json(self.read(name), self.where(name))

    def within(self, folder: str) -> "Snapshot":
        """Return a directory of this one that has a manifest of its own.

        Args:
            folder: its name.

        Returns:
            Its files.

        Raises:
            StorageError: it has no manifest, or one that contradicts this directory's.
        """
        raw = self.read(f"{folder}/{MANIFEST}")
        manifest = parse_manifest(raw, self.where(f"{folder}/{MANIFEST}"))
        prefix = f"{folder}/"
        mine = {
            name.removeprefix(prefix): entry
            for name, entry in self._manifest.files.items()
            if name.startswith(prefix) and name != prefix + MANIFEST
        }
        if mine != manifest.files:
            different = sorted(name for name in mine | manifest.files if mine.get(name) != manifest.files.get(name))
            raise StorageError(
                "the files that both manifests list",
                "others",
                self.where(prefix + different[0]),
                "restore the directory",
            )
        files = {name: self._files[prefix + name] for name in manifest.files}
        inner = Snapshot(self.directory / folder, manifest, files, raw)
        inner._checked = {name for name in files if prefix + name in self._checked}
        return inner

    def check(self) -> None:
        """Check every file that was not read.

        Raises:
            StorageError: a file is damaged.
        """
        for name in self._files:
            self.open(name)

    def is_current(self) -> bool:
        """Tell whether the directory still holds this version."""
        try:
            with _Folder(standing_version(self.directory)) as folder:
                return folder.manifest() == self._raw
        except StorageError:
            return False


def read_directory(directory: str | Path, parse: Callable[[Snapshot], Value]) -> Value:
    """Read one version of a directory, while others may write it anew.

    Args:
        directory: what `write_manifest` completed.
        parse: makes something of the files. It is called again where a newer version was published meanwhile and
            this one could not be read to its end.

    Returns:
        What `parse` returned, from files that were all as the manifest says.

    Raises:
        StorageError: the manifest or a file is missing, changed, cut short, no regular file, or was not there when
            the manifest was written.
    """
    directory = Path(directory)
    for attempt in range(_ATTEMPTS):
        snapshot: Snapshot | None = None
        before = _identity(directory)
        try:
            with _held(directory) as snapshot:
                value = parse(snapshot)
                snapshot.check()
                return value
        except StorageError:
            is_current = _identity(directory) == before if snapshot is None else snapshot.is_current()
            if is_current or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Check every file of a directory against its manifest.

    Args:
        directory: what `write_manifest` completed.

    Returns:
        The manifest's payload.

    Raises:
        StorageError: as `read_directory`.
    """
    return read_directory(directory, lambda snapshot: snapshot.payload)


@contextmanager
def _held(directory: Path) -> Iterator[Snapshot]:
    """Open all files of a directory, and look at the end whether the manifest is still what it was."""
    with ExitStack() as stack:
        folder = stack.enter_context(_Folder(standing_version(directory)))
        raw = folder.manifest()
        manifest = parse_manifest(raw, str(directory / MANIFEST))
        here = folder.names(manifest)
        for name in sorted(here ^ manifest.files.keys()):
            state = "a file or folder that the manifest does not list" if name in here else "no such file"
            raise StorageError("the files of the manifest", state, str(directory / name), "restore the directory")
        files = {}
        for name, entry in manifest.files.items():
            file = stack.enter_context(folder.open(name, entry["size"]))
            if entry["size"] <= _SMALL:
                with storage_errors(directory / name):
                    content = file.read(_SMALL + 1)
                file.close()
                file = io.BytesIO(content)
            files[name] = file
        yield Snapshot(directory, manifest, files, raw)
        raw_now = raw
        with suppress(StorageError):  # this version was removed after it was opened
            raw_now = folder.manifest()
        if raw_now != raw:
            raise StorageError(
                "a directory that nobody writes into", "another manifest than at first", str(directory / MANIFEST),
                "load it again",
            )  # fmt: skip


class _Folder:
    """An open directory; by its path where the system cannot open files relative to a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "_Folder":
        with storage_errors(self._path):
            if not self._path.is_dir():
                code = errno.ENOTDIR if self._path.exists() else errno.ENOENT
                raise OSError(code, os.strerror(code))
            if _HAS_DESCRIPTORS:
                self._descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def manifest(self) -> bytes:
        where = str(self._path / MANIFEST)
        with self.open(MANIFEST) as file, storage_errors(where):
            content = file.read(_MAX_MANIFEST + 1)
        if len(content) > _MAX_MANIFEST:
            raise StorageError(f"at most {_MAX_MANIFEST} bytes", "more", where, "restore the directory")
        return content

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        """Open a regular file of the expected size; never wait for the writer of a pipe, never follow a link."""
        where = str(self._path / name)
        with storage_errors(where):
            path = name if self._descriptor is not None else where
            found = os.stat(path, dir_fd=self._descriptor, follow_symlinks=False)  # opening a device may do things
            if stat.S_ISREG(found.st_mode):
                file = os.fdopen(os.open(path, os.O_RDONLY | _FLAGS, dir_fd=self._descriptor), "rb")
                opened = os.fstat(file.fileno())
                if stat.S_ISREG(opened.st_mode) and size in (None, opened.st_size):
                    return file
                file.close()
                found = opened
        if stat.S_ISREG(found.st_mode):
            raise StorageError(
                f"{size} bytes", f"{found.st_size}", where, "the file is damaged or half written: restore the directory"
            )
        raise StorageError("a regular file", "a link, folder, pipe or device", where, "restore the directory")

    def names(self, manifest: Manifest) -> set[str]:
        """List all files and those folders that hold none of the manifest's files."""
        folders = {str(parent) for name in manifest.files for parent in PurePosixPath(name).parents}
        if self._descriptor is None:
            walk = ((root, inner, files) for root, inner, files in os.walk(self._path))
        else:
            walk = ((root, inner, files) for root, inner, files, _ in os.fwalk(".", dir_fd=self._descriptor))
        found = set()
        for root, inner, files in walk:
            here = PurePosixPath(Path(root).relative_to(self._path if self._descriptor is None else ".").as_posix())
            found |= {str(here / name) for name in files if name not in LITTER}
            found |= {str(here / name) for name in inner if str(here / name) not in folders}
            inner[:] = [name for name in inner if str(here / name) in folders]
        return found - {MANIFEST}


def _check(file: BinaryIO, entry: Entry, where: str) -> None:
    with storage_errors(where):
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != entry["sha256"]:
        raise StorageError(
            f"{entry['size']} bytes with SHA-256 {entry['sha256'][:12]}…",
            "other content",
            where,
            "the file is damaged or half written: restore the directory",
        )


def _identity(directory: Path) -> tuple[int, ...] | None:
    """Tell versions of a directory apart."""
    try:
        found = standing_version(directory).stat()
    except (OSError, StorageError):
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
