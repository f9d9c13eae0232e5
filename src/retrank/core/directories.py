"""Directories that are published as a whole: a reader finds the old version or the new one, always one of them.

A directory is filled as a draft beside its place and then exchanged with what stands there, by one call of the system
(see `exchange`). The older version is removed afterwards; who holds its files open (see `snapshots`) can read on.
Nobody waits for anybody: of several savers, the last one wins.

Where the system cannot exchange directories, the older version is renamed to `.NAME.old-TOKEN` and then the draft,
`.NAME.draft-TOKEN`, to its place. Between the two renames both stand side by side, and only then: a reader that finds
nothing at the place but such a pair reads the draft, which is complete. So a process may end at any moment, and
nobody ever renames anything to recover.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from retrank.core.errors import StorageError
from retrank.core.exchange import exchange
from retrank.core.files import storage_errors
from retrank.core.manifest import LITTER, MANIFEST, is_ours, parse_manifest
from retrank.core.open_folder import OpenFolder

if sys.platform != "win32":
    import fcntl

__all__ = ["atomic_directory", "ensure_replaceable", "standing_version"]

_TOKEN_BYTES: Final = 8
_LONGEST_STEM: Final = 200  # bytes, so that the name of a draft is not too long where its directory's is not
_TAKEN: Final = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Fill a directory that appears under its name only when it is complete.

    Several processes may write the same directory at the same time; each publishes a whole version.

    Args:
        path: where it shall stand; an older directory there, which must have a manifest, is replaced as a whole at
            the end.

    Yields:
        An empty directory beside `path` to write into; on an error it is removed and `path` stays as it was.

    Raises:
        StorageError: `path` holds something else than what this package wrote, see `ensure_replaceable`; or a file
            cannot be written.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with rr.core.directories.atomic_directory(f"{folder}/bundle") as draft:
        ...         rr.core.files.write_text(draft / "a.txt", "done")
        ...     pathlib.Path(folder, "bundle", "a.txt").read_text()
        'done'
    """
    ensure_replaceable(path)
    place = Path(path).resolve()  # a link stays, and what it points to is replaced
    with storage_errors(path), _draft_of(place) as draft:
        try:
            yield draft
        except StorageError as error:  # name the file as it would be called
            where = error.where.replace(str(draft), str(path))
            raise StorageError(error.expected, error.got, where, error.fix) from error
        _bring_to_disk(draft)
        replaced = _publish(draft, place)
        _sync(place.parent)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        _remove_dead_drafts(place)


def ensure_replaceable(path: str | Path) -> None:
    """Refuse to write a directory where that would delete anything that this package did not write.

    Long computations call it before they begin, so that they do not fail when they save.

    Args:
        path: where a directory shall stand: nothing, an empty directory or one with a manifest that lists all its
            files. Their content is not checked, so that a damaged directory can be written anew.

    Raises:
        StorageError: `path` is a file, the current directory or a parent of it, or a directory of other files.

    Example:
        >>> import tempfile, pathlib, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rr.core.directories.ensure_replaceable(f"{folder}/new")
        ...     rr.core.files.write_text(f"{folder}/letter.txt", "precious")
        ...     rr.core.directories.ensure_replaceable(folder)
        Traceback (most recent call last):
        retrank.core.errors.StorageError: ...
    """
    with storage_errors(path):
        place = Path(path).resolve()
        found = "the current directory or a parent of it" if Path.cwd().is_relative_to(place) else _not_ours(place)
    if found is not None:
        raise StorageError(
            "nothing, an empty directory or one that retrank wrote", found, str(path), "name another directory"
        )


def standing_version(path: str | Path) -> Path:
    """Find where the current version of a directory stands.

    Args:
        path: its place.

    Returns:
        The place itself; a complete draft beside it if the process that published it ended between two renames.
    """
    path = Path(path)
    with storage_errors(path):
        if os.path.lexists(path) or not path.parent.is_dir():
            return path
        place = path.resolve()
        drafts = (_scratch_name(place, "draft", token) for kind, token, _ in _scratch(place) if kind == "old")
        return next((draft for draft in drafts if draft.is_dir()), path)


def _not_ours(place: Path) -> str | None:
    """Say what stands at a place that must not be deleted."""
    while True:
        before = _identity(place)
        found = _not_ours_now(place)
        if found is None or _identity(place) == before:
            return found  # else another saver replaced and removed what was looked at


def _identity(place: Path) -> tuple[int, ...] | None:
    """Tell apart what stands at a place at two times; a number of a file alone may be used again."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _not_ours_now(place: Path) -> str | None:
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(mode):
        return "a file"
    listed: set[str] | None = None
    with contextlib.suppress(StorageError):
        with OpenFolder(place) as folder:
            manifest = parse_manifest(folder.manifest(), str(place / MANIFEST))
        listed = {MANIFEST, *manifest.files} if is_ours(manifest.payload) else None
    for root, folders, files in os.walk(place):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted({*files, *links} - LITTER):
            if listed is None:
                return "a directory of other files"
            relative = Path(root, name).relative_to(place).as_posix()
            if relative not in listed:
                return f"a file of others in it, {relative}"
    return None


@contextmanager
def _draft_of(place: Path) -> Iterator[Path]:
    """Make an empty directory, locked as long as this process lives, and remove it in the end if it is still there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    while True:
        draft = _scratch_name(place, "draft", secrets.token_hex(_TOKEN_BYTES))
        draft.mkdir()  # with the mode that the umask leaves
        lock = _Lock(draft)
        if lock.share() and draft.is_dir():  # else it was taken for dead before it was locked
            break
        lock.close()
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        lock.close()


def _publish(draft: Path, place: Path) -> Path | None:
    """Give a draft its name, and return where the version that it replaced now stands, if there was one."""
    while True:
        try:
            if not os.path.lexists(place):
                draft.rename(place)
                return None
            with _Lock(place) as standing:
                standing.share()  # so that no other saver takes it for a dead draft as soon as it has the draft's name
                if not exchange(draft, place):
                    return _publish_by_renames(draft, place)
                return _require_ours(draft, place)
        except FileNotFoundError:
            if not draft.is_dir():
                raise
            continue  # the older version was removed meanwhile
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            continue  # another saver came first


def _require_ours(replaced: Path, place: Path) -> Path:
    """Put back what was exchanged if it is not ours: it was put there after `ensure_replaceable`."""
    with _Lock(replaced) as lock:
        if lock.share() and (found := _not_ours(replaced)) is not None:  # without a share, another saver removes it
            exchange(replaced, place)
            raise StorageError("a directory that retrank wrote", found, str(place), "name another directory")
    return replaced


def _publish_by_renames(draft: Path, place: Path) -> Path | None:
    old = _scratch_name(place, "old", draft.name.rpartition("-")[2])
    place.rename(old)
    try:
        if (found := _not_ours(old)) is not None:
            raise StorageError("a directory that retrank wrote", found, str(place), "name another directory")
        draft.rename(place)
    except BaseException as error:
        if not os.path.lexists(place):
            old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)  # another saver came first: replace its version
        if not isinstance(error, OSError):
            raise
        return _publish(draft, place)
    return old


def _remove_dead_drafts(place: Path) -> None:
    """Remove what processes that ended early left beside a directory."""
    for kind, token, path in _scratch(place):
        is_between_renames = kind == "old" and _scratch_name(place, "draft", token).is_dir()
        with _Lock(path) as lock:
            if lock.take() and not is_between_renames:
                shutil.rmtree(path, ignore_errors=True)


class _Lock:
    """Tells whether a process that writes a draft is alive; on systems without such locks nothing is taken for dead."""

    def __init__(self, directory: Path) -> None:
        self._descriptor: int | None = None
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def __enter__(self) -> "_Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self) -> bool:
        """Mark the draft as alive; False if it is being removed."""
        if sys.platform != "win32" and self._descriptor is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                pass  # a file system without locks
        return True

    def take(self) -> bool:
        """Tell whether nobody writes the draft any more."""
        if sys.platform != "win32" and self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        return False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _scratch(place: Path) -> list[tuple[str, str, Path]]:
    """List kind, token and path of the drafts and older versions beside a directory."""
    pattern = re.compile(rf"\.{re.escape(_stem(place))}\.(draft|old)-([0-9a-f]{{{2 * _TOKEN_BYTES}}})")
    matches = ((pattern.fullmatch(path.name), path) for path in sorted(place.parent.iterdir()))
    return [(match[1], match[2], path) for match, path in matches if match and path.is_dir() and not path.is_symlink()]


def _scratch_name(place: Path, kind: str, token: str) -> Path:
    return place.with_name(f".{_stem(place)}.{kind}-{token}")


def _stem(place: Path) -> str:
    name = place.name
    return name if len(os.fsencode(name)) <= _LONGEST_STEM else hashlib.sha256(os.fsencode(name)).hexdigest()


def _bring_to_disk(draft: Path) -> None:
    """Bring a draft to the disk, readable for whom the umask says whoever wrote its files."""
    mode = stat.S_IMODE(draft.stat().st_mode)  # what the umask left of a folder's
    for path in draft.rglob("*"):
        if path.is_dir():
            path.chmod(mode)
            _sync(path)
        elif path.is_file():
            path.chmod(mode & 0o666)
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync(draft)


def _sync(directory: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot, and keep directories in order by themselves
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
