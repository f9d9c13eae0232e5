"""`SqliteFile`: the file of a `SqliteStore`, made, recognised and opened."""

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final
from weakref import WeakSet

from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError

__all__ = ["SqliteFile", "is_busy", "sqlite_errors"]

_APPLICATION: Final = 0x72657472  # "retr", in the header of the file
_VERSION: Final = 1
_SMALLEST: Final = 512  # bytes of a database
# A key has no declared type, so that SQLite keeps 7 apart from '7'; x'00' and x'01' are the booleans.
_SCHEMA: Final = (
    "create table store (identity text not null, position integer not null)",
    """create table events (
        position integer primary key, id text not null unique, query not null, candidate not null, type text not null,
        time integer not null, value real, list_id text
    )""",
    """create table documents (
        position integer primary key, kind text not null, key not null, content blob, unique (kind, key)
    )""",
    """create table impressions (
        position integer primary key autoincrement, list_id text not null, query, time integer not null,
        keys text not null, scores blob not null, probabilities blob not null, bundle text not null
    )""",
)
_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_OPEN: "WeakSet[SqliteFile]" = WeakSet()
_INHERITED: set[tuple[int, int]] = set()  # device and inode of what was open in the process that this one is a fork of


@final
class SqliteFile:
    """A database of SQLite that holds a store of events.

    Args:
        path: the file; made if it is not there, readable by its owner only.
        timeout: seconds to wait for a lock.

    Raises:
        StorageError: the file is something else, damaged or of another version.
        StoreUnavailableError: it cannot be opened for writing.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.where = f"store {str(path)!r}"
        self._timeout = timeout
        with _path_errors(self.where):
            self._path = path.absolute()  # where the process goes later does not matter
            if not self._path.parent.is_dir():
                raise StoreUnavailableError("a folder that exists", str(self._path.parent), self.where, "make it first")
            with suppress(FileExistsError):  # SQLite gives the files that it puts beside this one the same mode
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._identity = _identity(self._path)
            size = self._path.stat().st_size
        if self._identity in _INHERITED:
            # SQLite keeps its locks in tables of the process, and takes those of the parent for its own.
            fix = "open the store after the fork, or start processes by 'spawn'"
            raise ConfigError(
                "a file that this process did not inherit open by a fork", "one that it did", self.where, fix
            )
        _OPEN.add(self)
        if 0 < size < _SMALLEST:  # SQLite takes it for empty
            raise StorageError("a store of events", "another file", self.where, "name another file")
        with sqlite_errors(self.where):
            self._create()

    def connect(self, timeout: float) -> sqlite3.Connection:
        """Open the file.

        Args:
            timeout: seconds to wait for a lock once the file is open; with 0 the caller tries again itself.

        Returns:
            A connection without transactions of its own, each of whose commits is on the disk when it is done.

        Raises:
            StoreUnavailableError: the file is gone, or was replaced.
        """
        self.require_same()
        connection = self._open()
        try:
            connection.execute("pragma synchronous = full")
            connection.execute("pragma fullfsync = on")  # macOS: not only as far as the memory of the drive
            _recognise(connection, self.where)
            connection.execute(f"pragma busy_timeout = {int(timeout * 1_000)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def require_same(self) -> None:
        """Refuse to write into a file that is no longer there: that would be kept nowhere.

        Raises:
            StoreUnavailableError: the file is gone, or was replaced.
        """
        try:
            is_same = _identity(self._path) == self._identity
        except OSError:
            is_same = False
        if not is_same:
            fix = "put it back, or open the store again"
            raise StoreUnavailableError("the file that was opened", "none, or another", self.where, fix)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False)

    @staticmethod
    def note_fork() -> None:
        """Remember, in a process that has just been forked, which files were open."""
        _INHERITED.update(file._identity for file in _OPEN)

    def release(self) -> None:
        """Note that all connections are closed."""
        _OPEN.discard(self)

    def _create(self) -> None:
        connection = self._open()
        try:
            if _first(connection, "pragma journal_mode") != "wal":
                # Refused at once while another process looks at the file, so the waiting is up to us.
                deadline = time.monotonic() + self._timeout
                _recognise(connection, self.where, may_be_empty=True)  # leave a foreign file as it is
                while not _switched_to_wal(connection, is_last=time.monotonic() > deadline):
                    time.sleep(0.01)
            connection.execute("pragma synchronous = full")
            connection.execute("begin immediate")
            if not _recognise(connection, self.where, may_be_empty=True):
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("insert into store values (?, 0)", (secrets.token_hex(16),))
                connection.execute(f"pragma application_id = {_APPLICATION}")
                connection.execute(f"pragma user_version = {_VERSION}")
            connection.execute("commit")
        finally:
            connection.close()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=SqliteFile.note_fork)


@contextmanager
def sqlite_errors(where: str) -> Iterator[None]:
    """Report what SQLite cannot do as an error of our family.

    Args:
        where: the store.

    Yields:
        Nothing.

    Raises:
        StoreUnavailableError: the file is locked, cannot be read or written, or the disk is full.
        StorageError: the file is damaged or no store.
    """
    try:
        yield
    except sqlite3.Error as error:
        got = f"{type(error).__name__}: {error}"
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _BROKEN:
            fix = "restore the file, or name another"
            raise StorageError("a sound store of events", got, where, fix) from error
        fix = "check the disk, the permissions and who else writes"
        raise StoreUnavailableError("a file of SQLite that can be read and written", got, where, fix) from error


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Tell whether somebody else holds a lock, so that trying again may help.

    Args:
        error: what SQLite reported.
    """
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def _path_errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        got = f"{type(error).__name__}: {error.strerror}"
        raise StoreUnavailableError("a file that can be read and written", got, where, "check the path") from error
    except ValueError as error:
        raise ConfigError("a path", str(error), where) from error


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _first(connection: sqlite3.Connection, statement: str) -> object:
    return connection.execute(statement).fetchone()[0]


def _recognise(connection: sqlite3.Connection, where: str, *, may_be_empty: bool = False) -> bool:
    """Tell a store from an empty file; refuse everything else."""
    application, version = _first(connection, "pragma application_id"), _first(connection, "pragma user_version")
    if application == _APPLICATION:
        if version != _VERSION:
            fix = "use the version of retrank that wrote it, or start a new store"
            raise StorageError(f"a store of version {_VERSION}", f"version {version}", where, fix)
        return True
    if may_be_empty and application == 0 and _first(connection, "select count(*) from sqlite_master") == 0:
        return False
    raise StorageError("a store of events", "another database of SQLite", where, "name another file")


def _switched_to_wal(connection: sqlite3.Connection, *, is_last: bool) -> bool:
    try:
        return _first(connection, "pragma journal_mode = wal") == "wal"
    except sqlite3.OperationalError as error:
        if is_last or not is_busy(error):
            raise
        return False
