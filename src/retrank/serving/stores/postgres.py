"""`PostgresStore`: a database of PostgreSQL, for the processes of any number of machines (extra `postgres`)."""

import os
import secrets
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError
from retrank.core.extras import optional
from retrank.recommender.request import Key
from retrank.serving.stores.encoding import format_key, format_values, pack_floats, parse_key, parse_keys, unpack_floats
from retrank.serving.stores.pool import Pool
from retrank.serving.stores.postgres_schema import CHANGES, IS_THERE, POSITION, SCHEMA, SESSION, VERSION
from retrank.serving.stores.records import Change, Document, Event, Impression, Kind
from retrank.serving.stores.store import Store, check_page
from retrank.serving.stores.watch import Watch

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresStore"]

_CONNECT_SECONDS: Final = 2  # psycopg takes no less
_CREATION_LOCK: Final = 0x72657472616E6B  # "retrank": whoever makes the tables holds it
_PAGE: Final = 1_000  # impressions deleted at a time


@final
class _Connection:
    """A connection, and the socket by which it is watched."""

    def __init__(self, raw: "psycopg.Connection[tuple[Any, ...]]", watch: Watch) -> None:
        self._raw, self._watch = raw, watch
        self._cursor = raw.cursor(binary=True)
        self._socket = socket.socket(fileno=os.dup(raw.fileno()))  # libpq closes its own
        self._poll = select.poll()
        self._poll.register(raw.fileno(), select.POLLIN)

    def execute(self, statement: str, values: Any = None, *, prepare: bool | None = None) -> list[tuple[Any, ...]]:
        with self._watch.limited(self._socket):
            self._cursor.execute(statement, values, prepare=prepare)
            return self._cursor.fetchall() if self._cursor.description else []

    def run(self, script: str) -> None:
        """Run several statements, without values."""
        with self._watch.limited(self._socket):
            self._raw.execute(script)

    def is_alive(self) -> bool:
        # A server that goes says so, or closes the socket: either way there is something to read.
        return not self._raw.closed and not self._poll.poll(0)

    def close(self) -> None:
        self._socket.close()
        self._raw.close()


@final
class PostgresStore(Store):
    """A store in a database of PostgreSQL, in the schema `retrank`, which is made if it is not there.

    An event is on the disk when it is acknowledged: `synchronous_commit` is switched on for our sessions where it is
    off; `fsync` is the server's own affair. Those who write take turns, so put many events into one call.

    No call waits longer than the timeout, a quarter of it and, for a new connection, two seconds more.

    Args:
        url: `postgresql://user:password@host/database`, with any parameters that libpq knows; for a Unix socket
            `postgresql://user@/database?host=/run/postgresql`.
        timeout: seconds for a statement, waiting for other writers included.

    Raises:
        ConfigError: a URL that libpq does not understand, or a database in another encoding than UTF8.
        StoreUnavailableError: the server cannot be reached.
        StorageError: the schema is of another version, or something else.
        MissingExtraError: psycopg is not installed.
    """

    is_server: ClassVar[bool] = True

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        self._driver = optional("psycopg", extra="postgres")
        self._timeout = timeout
        try:
            self._parameters = self._driver.conninfo.conninfo_to_dict(url)
        except self._driver.Error as error:
            raise ConfigError("a URL of PostgreSQL", str(error).strip(), "the URL of a store") from error
        shown = (self._parameters.get(name) or "" for name in ("host", "dbname"))
        self._where = f"store postgresql://{'/'.join(map(str, shown))}"  # without the password
        self._watch = Watch(timeout)
        self._identity: str | None = None
        self._pool = Pool(self._connect, self._where, _Connection.is_alive)
        with self._connection():
            pass  # knows the identity now

    def append_events(self, events: Sequence[Event]) -> list[bool]:  # noqa: D102 (as Store says)
        if not events:
            return []
        columns = zip(
            *((e.id, format_key(e.query), format_key(e.candidate), e.type, e.time, e.value, e.list_id) for e in events),
            strict=True,
        )
        with self._connection() as connection:
            rows = connection.execute(
                "select retrank.append_events("
                "%s, %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::float8[], %s::text[])",
                [self._identity, *(list(column) for column in columns)],
            )
        new = {number for (number,) in rows}
        return [number in new for number in range(1, len(events) + 1)]

    def put(self, documents: Sequence[Document]) -> None:  # noqa: D102
        if not documents:
            return
        columns = zip(*((d.kind, format_key(d.key), d.content) for d in documents), strict=True)
        with self._connection() as connection:
            connection.execute(
                "select retrank.put(%s, %s::text[], %s::text[], %s::bytea[])",
                [self._identity, *(list(column) for column in columns)],
            )

    def get(self, kind: Kind, key: Key) -> Document | None:  # noqa: D102
        wanted = Document(kind, key, None)
        with self._connection() as connection:
            rows = connection.execute(
                "select content from retrank.documents where kind = %s and retrank.digest(key) = retrank.digest(%s)",
                (kind, format_key(wanted.key)),
            )
        return Document(kind, key, rows[0][0]) if rows else None

    def position(self) -> int:  # noqa: D102
        with self._connection() as connection:
            position, identity = connection.execute(POSITION)[0]
        self._require(identity)
        return int(position)

    def changes(self, after: int, limit: int = 10_000) -> list[Change]:  # noqa: D102
        check_page(after, limit)
        with self._connection() as connection:
            rows = connection.execute(CHANGES, {"after": after, "limit": limit})
        return [_change(*row) for row in rows]

    def log_impressions(self, impressions: Sequence[Impression]) -> None:  # noqa: D102
        if not impressions:
            return
        columns = zip(
            *(
                (
                    i.list_id,
                    None if i.query is None else format_key(i.query),
                    i.time,
                    format_values(i.keys),
                    pack_floats(i.scores),
                    pack_floats(i.probabilities),
                    i.bundle,
                )
                for i in impressions
            ),
            strict=True,
        )
        with self._connection() as connection:
            connection.execute(
                "select retrank.log_impressions("
                "%s, %s::text[], %s::text[], %s::bigint[], %s::text[], %s::bytea[], %s::bytea[], %s::text[])",
                [self._identity, *(list(column) for column in columns)],
            )

    def impressions(self, after: int = 0, limit: int = 10_000) -> list[tuple[int, Impression]]:  # noqa: D102
        check_page(after, limit)
        with self._connection() as connection:
            rows = connection.execute(
                "select * from retrank.impressions where position > %s order by position limit %s", (after, limit)
            )
        return [(position, _impression(*row)) for position, *row in rows]

    def forget_impressions(self, before: int) -> int:  # noqa: D102
        num_forgotten = last = 0
        while True:
            with self._connection() as connection:
                page = connection.execute(
                    "select position, time from retrank.impressions where position > %s order by position limit %s",
                    (last, _PAGE),
                )
                if not page:
                    return num_forgotten
                last = page[-1][0]
                old = [position for position, time in page if time < before]
                if old:
                    num_forgotten += len(
                        connection.execute(
                            "delete from retrank.impressions where position = any(%s::bigint[]) returning 1", (old,)
                        )
                    )

    def identity(self) -> str:  # noqa: D102
        assert self._identity is not None
        return self._identity

    def check(self) -> None:  # noqa: D102
        with self._connection() as connection:
            if connection.execute("select current_setting('transaction_read_only')") != [("off",)]:
                fix = "name the primary server"
                raise StoreUnavailableError("a server that takes changes", "one to read from", self._where, fix)

    def close(self) -> None:  # noqa: D102
        self._pool.close()
        self._watch.close()

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        """Lend a connection; each statement on it is a transaction."""
        driver = self._driver
        try:
            with self._pool.borrowed() as connection:
                yield connection
        except (driver.OperationalError, driver.InterfaceError, driver.errors.ReadOnlySqlTransaction) as error:
            fix = "check that the server runs, who may connect and the space on its disk"
            raise StoreUnavailableError("a server that answers in time", _said(error), self._where, fix) from error
        except driver.Error as error:
            fix = "restore the database"
            raise StorageError("a sound store of events", _said(error), self._where, fix) from error

    def _connect(self) -> _Connection:
        given = {"connect_timeout": _CONNECT_SECONDS} | self._parameters
        connection = _Connection(self._driver.connect(**given, autocommit=True), self._watch)
        try:
            *_, encoding = connection.execute(
                SESSION, {"milliseconds": str(int(self._timeout * 1_000))}, prepare=False
            )[0]
            if encoding != "UTF8":
                raise ConfigError("a database with the encoding UTF8", encoding, self._where)
            if not connection.execute(IS_THERE, prepare=False)[0][0]:
                self._create(connection)
            self._recognise(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _recognise(self, connection: _Connection) -> None:
        [(identity, version)] = connection.execute("select identity, version from retrank.store", prepare=False)
        if version != VERSION:
            fix = "use the version of retrank that wrote it, or another database"
            raise StorageError(f"a store of version {VERSION}", f"version {version}", self._where, fix)
        if self._identity is None:
            self._identity = identity
        self._require(identity)

    def _require(self, identity: str) -> None:
        if identity != self._identity:
            fix = "bring the database back, or open the store again"
            raise StorageError(f"the store {self._identity}", f"the store {identity}", self._where, fix)

    def _create(self, connection: _Connection) -> None:
        if self._identity is not None:
            raise StorageError(
                f"the store {self._identity}",
                "nothing",
                self._where,
                "bring the database back, or open the store again",
            )
        connection.run(f"begin; select pg_advisory_xact_lock({_CREATION_LOCK})")
        if not connection.execute(IS_THERE, prepare=False)[0][0]:
            connection.run(SCHEMA)
            connection.execute(
                "insert into retrank.store values (%s, %s)", (secrets.token_hex(16), VERSION), prepare=False
            )
        connection.run("commit")


def _said(error: "psycopg.Error") -> str:
    """Return what went wrong, without the statement and the hints that the server adds."""
    return f"{type(error).__name__}: {error.diag.message_primary or ' '.join(str(error).split())}"


def _change(position: int, name: str | None, *rest: Any) -> Change:
    if name is None:
        kind, key, *_, content = rest
        return Change(position, Document(kind, parse_key(key), content))
    query, candidate, *others, _ = rest
    return Change(position, Event(name, parse_key(query), parse_key(candidate), *others))


def _impression(
    list_id: str, query: str | None, time: int, keys: str, scores: bytes, chances: bytes, bundle: str
) -> Impression:
    key = None if query is None else parse_key(query)
    return Impression(list_id, key, time, parse_keys(keys), unpack_floats(scores), unpack_floats(chances), bundle)
