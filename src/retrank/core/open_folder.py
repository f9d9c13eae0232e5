"""An open folder: its regular files, and nothing that a name could lead to instead."""

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Self, final

from retrank.core.errors import StorageError
from retrank.core.files import storage_errors
from retrank.core.manifest import LITTER, MANIFEST, Manifest

__all__ = ["OpenFolder"]

_MAX_MANIFEST: Final = 2**26
_HAS_DESCRIPTORS: Final = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


@final
class OpenFolder:
    """A folder that stays the same one when its name comes to mean another, where the system can open it.

    Elsewhere its files are found by their paths.

    Args:
        path: where it stands.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
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
        """Read the manifest, which is not checked."""
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
