"""`SqliteStore`: a file of SQLite, for the processes of one machine."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, final

from retrank.core.errors import StoreUnavailableError
from retrank.recommender.request import Key
from retrank.serving.stores.encoding import format_values, pack_floats, parse_keys, unpack_floats
from retrank.serving.stores.pool import Pool
from retrank.serving.stores.records import Change, Document, Event, Impression, Kind
from retrank.serving.stores.sqlite_file import SqliteFile, is_busy, sqlite_errors
from retrank.serving.stores.store import Store, check_page

__all__ = ["SqliteStore"]

_CHANGES: Final = """
select position, id, query, candidate, type, time, value, list_id from events where position > :after
union all
select position, null, kind, key, content, null, null, null from documents where position > :after
order by position limit :limit
"""
_EVENT: Final = "insert into events values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do nothing"
_DOCUMENT: Final = """
insert into documents values (?, ?, ?, ?)
on conflict (kind, key) do update set position = excluded.position, content = excluded.content
"""
_READING: Final = 0.1  # seconds that a reader waits, which is only for one who recovers or owns the whole file
_PAUSE: Final = 0.001  # seconds between two looks at the lock; it is held for as long as a disk takes
_PAGE: Final = 1_000  # impressions deleted while others wait


@final
class SqliteStore(Store):
    """A store in a file of SQLite, in WAL mode: readers and the one writer do not wait for each other.

    The file must be on a disk of this machine: SQLite's shared memory does not work over network file systems. Beside
    it lie `-wal` and `-shm` files while it is open, and only its owner may read any of them. To copy the file of a
    running service, use `sqlite3 events.db ".backup copy.db"`.

    Args:
        path: the file; it is made if it is not there.
        timeout: seconds to wait for another writer.

    Raises:
        StorageError: the file is no store of events, is damaged or of another version.
        StoreUnavailableError: it cannot be opened for writing.
    """

    is_server: ClassVar[bool] = False

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, timeout)
        self._timeout = timeout
        self._pool = Pool(lambda: self._file.connect(min(timeout, _READING)), self._file.where)
        # Threads of one process take turns to write; only processes compete for SQLite's lock.
        self._turn = threading.Lock()
        self._writers = Pool(lambda: self._file.connect(0.0), self._file.where)
        with sqlite_errors(self._file.where), closing(self._file.connect(timeout)) as connection:
            self._identity = str(connection.execute("select identity from store").fetchone()[0])

    def append_events(self, events: Sequence[Event]) -> list[bool]:  # noqa: D102 (as Store says)
        rows = [(e.id, _stored(e.query), _stored(e.candidate), e.type, e.time, e.value, e.list_id) for e in events]
        with self._transaction() as connection:
            first = position = _position(connection)
            are_new = []
            for row in rows:
                is_new = connection.execute(_EVENT, (position + 1, *row)).rowcount == 1
                are_new.append(is_new)
                position += is_new
            if position > first:
                connection.execute("update store set position = ?", (position,))
        return are_new

    def put(self, documents: Sequence[Document]) -> None:  # noqa: D102
        rows = [(document.kind, _stored(document.key), document.content) for document in documents]
        with self._transaction() as connection:
            first = _position(connection)
            connection.executemany(_DOCUMENT, [(n, *row) for n, row in enumerate(rows, first + 1)])
            if rows:
                connection.execute("update store set position = ?", (first + len(rows),))

    def get(self, kind: Kind, key: Key) -> Document | None:  # noqa: D102
        wanted = Document(kind, key, None)
        with self._reading() as connection:
            found = connection.execute(
                "select content from documents where kind = ? and key = ?", (kind, _stored(wanted.key))
            ).fetchone()
        return Document(kind, key, found[0]) if found else None

    def position(self) -> int:  # noqa: D102
        with self._reading() as connection:
            self._file.require_same()  # a connection goes on with a file that was deleted, and never knows
            return _position(connection)

    def changes(self, after: int, limit: int = 10_000) -> list[Change]:  # noqa: D102
        check_page(after, limit)
        with self._reading() as connection:
            rows = connection.execute(_CHANGES, {"after": after, "limit": limit}).fetchall()
        return [_change(*row) for row in rows]

    def log_impressions(self, impressions: Sequence[Impression]) -> None:  # noqa: D102
        rows = [
            (
                i.list_id,
                None if i.query is None else _stored(i.query),
                i.time,
                format_values(i.keys),
                pack_floats(i.scores),
                pack_floats(i.probabilities),
                i.bundle,
            )
            for i in impressions
        ]
        with self._transaction(synchronous="normal") as connection:
            connection.executemany("insert into impressions values (null, ?, ?, ?, ?, ?, ?, ?)", rows)

    def impressions(self, after: int = 0, limit: int = 10_000) -> list[tuple[int, Impression]]:  # noqa: D102
        check_page(after, limit)
        with self._reading() as connection:
            rows = connection.execute(
                "select * from impressions where position > ? order by position limit ?", (after, limit)
            ).fetchall()
        return [(position, _impression(*row)) for position, *row in rows]

    def forget_impressions(self, before: int) -> int:  # noqa: D102
        num_forgotten = last = 0
        while True:
            with self._reading() as connection:
                page = connection.execute(
                    "select position, time from impressions where position > ? order by position limit ?",
                    (last, _PAGE),
                ).fetchall()
            if not page:
                return num_forgotten
            last = page[-1][0]
            old = [(position,) for position, time in page if time < before]
            if old:
                with self._transaction(synchronous="normal") as connection:
                    num_forgotten += connection.executemany("delete from impressions where position = ?", old).rowcount

    def identity(self) -> str:  # noqa: D102
        return self._identity

    def check(self) -> None:  # noqa: D102
        with self._transaction() as connection:
            _position(connection)

    def close(self) -> None:  # noqa: D102
        self._pool.close()
        self._writers.close()
        self._file.release()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with sqlite_errors(self._file.where), self._pool.borrowed() as connection:
            yield connection

    @contextmanager
    def _transaction(self, synchronous: str | None = None) -> Iterator[sqlite3.Connection]:
        """Be the one writer; what is written is kept as a whole, or not at all if there is an error."""
        if not self._turn.acquire(timeout=self._timeout):
            raise StoreUnavailableError("the turn to write", f"none in {self._timeout} s", self._file.where)
        try:
            with sqlite_errors(self._file.where), self._writers.borrowed() as connection:
                self._file.require_same()
                if synchronous:
                    connection.execute(f"pragma synchronous = {synchronous}")
                self._begin(connection)
                yield connection
                connection.execute("commit")
                if synchronous:
                    connection.execute("pragma synchronous = full")
        finally:
            self._turn.release()

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take SQLite's lock. Its own waiting looks ten times a second, and others who write on and on shut it out."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("begin immediate")
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline or not is_busy(error):
                    raise
                time.sleep(_PAUSE)
            else:
                return


def _position(connection: sqlite3.Connection) -> int:
    return int(connection.execute("select position from store").fetchone()[0])


def _stored(key: Key) -> Key | bytes:
    return bytes([key]) if isinstance(key, bool) else key


def _key(stored: Any) -> Key:
    return bool(stored[0]) if isinstance(stored, bytes) else stored


def _change(position: int, name: str | None, *rest: Any) -> Change:
    if name is None:
        kind, key, content, *_ = rest
        return Change(position, Document(kind, _key(key), content))
    query, candidate, *others = rest
    return Change(position, Event(name, _key(query), _key(candidate), *others))


def _impression(list_id: str, query: Any, time: int, keys: str, scores: bytes, chances: bytes, name: str) -> Impression:
    key = None if query is None else _key(query)
    return Impression(list_id, key, time, parse_keys(keys), unpack_floats(scores), unpack_floats(chances), name)
