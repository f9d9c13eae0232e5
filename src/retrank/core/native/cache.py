"""`KernelCache`: built kernels and failed builds, kept for the next process, where nobody else could have put them."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, Self, final

try:
    import fcntl as _fcntl

    fcntl: ModuleType | None = _fcntl
except ImportError:  # not POSIX
    fcntl = None

__all__ = ["Kept", "KernelCache"]

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_ADMINISTRATOR: Final = 0  # who could change what this process runs in any case
_DRAFT: Final = ".build-"
_LONGEST_BUILD: Final = (
    600  # seconds after which a build that holds the lock counts as hung, and its draft as left over
)


@final
class Kept(NamedTuple):
    """A library that was built before."""

    path: Path
    flags: str
    """The options of the compiler that depend on the machine."""


@final
class KernelCache:
    """A folder of this user's alone.

    Loading a library runs its code, so a folder or file that belongs to another user, that others may write to, or that
    is a link is not trusted: such a file is built anew, such a folder is refused. The administrator counts as oneself:
    an image holds what root has built, and the user who runs it cannot replace that.

    Args:
        folder: made if it is not there.

    Raises:
        OSError: it cannot be made, or is not this user's alone.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(folder, stat.S_ISDIR):
            raise PermissionError(
                f"{folder} is a link, belongs to another user, or is writable by others; make it a folder of your own "
                "with mode 700"
            )
        self.folder = folder

    @classmethod
    def of_this_user(cls) -> Self:
        """Open the folder `retrank/kernels` below `$XDG_CACHE_HOME`, by default `~/.cache`."""
        given = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
        return cls(base / "retrank" / "kernels")

    def find(self, key: str) -> Kept | None:
        """Return the library of a key, if it is there, trusted and undamaged."""
        path, seal = self._path(key, ".so"), self._path(key, ".json")
        with suppress(OSError, ValueError, KeyError, TypeError):
            if _is_private(path, stat.S_ISREG) and _is_private(seal, stat.S_ISREG):
                described = json.loads(seal.read_text(encoding="utf-8"))
                if described["sha256"] == _sha256(path):  # loading a damaged one can be fatal
                    return Kept(path, str(described["flags"]))
        return None

    def failure(self, key: str) -> str | None:
        """Return why a build of this key failed before, or None."""
        path = self._path(key, ".failed")
        with suppress(OSError):
            if _is_private(path, stat.S_ISREG):
                return path.read_text(encoding="utf-8", errors="replace")
        return None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Make a folder for the files of one build, on the same disk."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_DRAFT) as folder:
            yield Path(folder)

    def keep(self, key: str, built: Path, flags: str) -> Kept:
        """Move a library that was built in a draft to its place."""
        path, seal = self._path(key, ".so"), built.with_suffix(".json")
        seal.write_text(json.dumps({"sha256": _sha256(built), "flags": flags}), encoding="utf-8")
        for draft, target in ((built, path), (seal, self._path(key, ".json"))):
            draft.chmod(0o600)  # whatever the user's umask
            draft.replace(target)
        self._path(key, ".failed").unlink(missing_ok=True)
        return Kept(path, flags)

    def remember_failure(self, key: str, reason: str) -> None:
        """Keep the reason why a build failed, so that the next process need not wait for the same."""
        with self.draft() as folder:
            draft = folder / "failed"
            draft.write_text(reason, encoding="utf-8")
            draft.chmod(0o600)
            draft.replace(self._path(key, ".failed"))

    def forget_failures(self) -> None:
        """Let builds that failed be tried again."""
        for path in self.folder.glob("kernels-*.failed"):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time build; where files cannot be locked, each builds for itself."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.folder / "lock", flags, 0o600)
        try:
            _wait_for(handle)
            self._sweep()
            yield
        finally:
            os.close(handle)  # which unlocks

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"kernels-{key}{suffix}"

    def _sweep(self) -> None:
        """Remove what killed builds have left."""
        for path in self.folder.glob(f"{_DRAFT}*"):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _LONGEST_BUILD:
                    shutil.rmtree(path)


def _wait_for(handle: int) -> None:
    if fcntl is None:
        return
    given_up = time.monotonic() + _LONGEST_BUILD
    while time.monotonic() < given_up:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return
        else:
            return


def _is_private(path: Path, is_kind: Callable[[int], bool]) -> bool:
    status = path.lstat()  # of a link itself, which might point elsewhere in a moment
    is_own = not hasattr(os, "geteuid") or status.st_uid in (_ADMINISTRATOR, os.geteuid())
    return is_own and is_kind(status.st_mode) and not status.st_mode & _WRITABLE_BY_OTHERS


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
