"""`RedisStore`: a server of Redis, for the processes of any number of machines (extra `redis`)."""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from typing import Any, ClassVar, Final, final

from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError
from retrank.core.extras import optional
from retrank.recommender.request import Key
from retrank.serving.stores import redis_scripts as scripts
from retrank.serving.stores.encoding import format_key, format_values, pack_floats, parse_key, unpack_floats
from retrank.serving.stores.records import Change, Document, Event, Impression, Kind
from retrank.serving.stores.store import Store, check_page

__all__ = ["RedisStore"]

_VERSION: Final = 1
_PAGE: Final = 1_000  # impressions looked at while others wait
_REQUIRED: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
}
# Errors that a server sends while it cannot do what it will do later.
_LATER: Final = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "CLUSTERDOWN", "TRYAGAIN")


@final
class RedisStore(Store):
    """A store in a database of one server of Redis 6.2 or later, under keys that begin with `{retrank}:`.

    The server must run with `appendonly yes` and `appendfsync always`: then it answers when what was written is on the
    disk. With `everysec` it answers sooner, and at times (while an earlier flush is under way) before it has handed the
    event to the kernel, so that even the end of its process alone could lose what was acknowledged. Nor may it evict
    keys. All of this is checked when the store is opened and by `check`.

    Args:
        url: `redis://user:password@host:port/0`, `rediss://` with TLS, or `unix:///path/redis.sock?db=0`.
        timeout: seconds to wait for the server, to connect as well.

    Raises:
        ConfigError: another URL, or a server with settings by which an acknowledged event could be lost.
        StoreUnavailableError: the server cannot be reached.
        StorageError: its store is of another version.
        MissingExtraError: the package redis is not installed.
    """

    is_server: ClassVar[bool] = True

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        driver = optional("redis", extra="redis")
        self._errors = driver.exceptions
        no_retry = optional("redis.retry", extra="redis").Retry(optional("redis.backoff", extra="redis").NoBackoff(), 0)
        try:
            # Tried again by itself, an append that was done and not answered would call its events known.
            self._client = driver.Redis.from_url(
                url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=no_retry
            )
        except ValueError as error:
            raise ConfigError("a URL of Redis", str(error), "the URL of a store") from error
        given = self._client.connection_pool.connection_kwargs
        place = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
        self._where = f"store redis {place}, database {given.get('db', 0)}"  # without the password
        self._process, self._is_closed = os.getpid(), False
        self._append = self._client.register_script(scripts.APPEND)
        self._put = self._client.register_script(scripts.PUT)
        self._get = self._client.register_script(scripts.GET)
        self._log = self._client.register_script(scripts.LOG)
        self._changes = self._client.register_script(scripts.CHANGES)
        try:
            self._identity = self._open()
        except BaseException:
            self._client.close()
            raise

    def append_events(self, events: Sequence[Event]) -> list[bool]:  # noqa: D102 (as Store says)
        if not events:
            return []
        values: list[str] = [self._identity]
        for e in events:
            values += e.id, format_values((e.id, e.query, e.candidate, e.type, e.time, e.value, e.list_id))
        with self._asking():
            are_new = self._append(keys=[scripts.STORE, scripts.EVENT_IDS, scripts.EVENTS], args=values)
        return [is_new == 1 for is_new in are_new]

    def put(self, documents: Sequence[Document]) -> None:  # noqa: D102
        if not documents:
            return
        values: list[str | bytes] = [self._identity]
        for document in documents:
            content = b"-" if document.content is None else b"+" + document.content
            values += _field(document.kind, document.key), content
        with self._asking():
            self._put(keys=[scripts.STORE, scripts.DOCUMENTS, scripts.ORDER], args=values)

    def get(self, kind: Kind, key: Key) -> Document | None:  # noqa: D102
        wanted = Document(kind, key, None)
        with self._asking():
            content = self._get(
                keys=[scripts.STORE, scripts.DOCUMENTS], args=[self._identity, _field(kind, wanted.key)]
            )
        return None if content is None else Document(kind, key, _content(content))

    def position(self) -> int:  # noqa: D102
        with self._asking():
            identity, position = self._client.hmget(scripts.STORE, "identity", "position")
        if identity is None or identity.decode() != self._identity:
            raise self._gone("another, or none")
        return int(position)

    def changes(self, after: int, limit: int = 10_000) -> list[Change]:  # noqa: D102
        check_page(after, limit)
        with self._asking():
            events, documents = self._changes(
                keys=[scripts.STORE, scripts.EVENTS, scripts.DOCUMENTS, scripts.ORDER],
                args=[self._identity, after, limit],
            )
        happened = (Change(_position(name), _event(fields[1])) for name, fields in events)
        written = (Change(int(position), _document(field, content)) for position, field, content in documents)
        return list(merge(happened, written, key=lambda change: change.position))[:limit]

    def log_impressions(self, impressions: Sequence[Impression]) -> None:  # noqa: D102
        if not impressions:
            return
        values: list[str | bytes] = [self._identity]
        for i in impressions:
            values += (
                format_values((i.list_id, i.query, i.time, i.keys, i.bundle)),
                pack_floats(i.scores),
                pack_floats(i.probabilities),
            )
        with self._asking():
            self._log(keys=[scripts.STORE, scripts.IMPRESSIONS], args=values)

    def impressions(self, after: int = 0, limit: int = 10_000) -> list[tuple[int, Impression]]:  # noqa: D102
        check_page(after, limit)
        return [(_position(name), _impression(*fields.values())) for name, fields in self._shown(after, limit)]

    def forget_impressions(self, before: int) -> int:  # noqa: D102
        num_forgotten = last = 0
        while page := self._shown(last, _PAGE):
            last = _position(page[-1][0])
            old = [name for name, fields in page if json.loads(fields[b"list"])[2] < before]
            if old:
                with self._asking():
                    num_forgotten += self._client.xdel(scripts.IMPRESSIONS, *old)
        return num_forgotten

    def identity(self) -> str:  # noqa: D102
        return self._identity

    def check(self) -> None:  # noqa: D102
        with self._asking():
            self._require_durable()
            role = self._client.execute_command("ROLE")[0]
        if role != b"master":
            raise StoreUnavailableError("a server that takes changes", role.decode(), self._where, "name the master")
        self.position()

    def close(self) -> None:  # noqa: D102
        self._is_closed = True
        self._client.close()

    def _shown(self, after: int, limit: int) -> list[Any]:
        with self._asking():
            return list(self._client.xrange(scripts.IMPRESSIONS, min=f"({after}-0", count=limit))

    def _open(self) -> str:
        with self._asking():
            self._require_durable()
            create = self._client.register_script(scripts.CREATE)
            identity, version = create(keys=[scripts.STORE], args=[secrets.token_hex(16), _VERSION])
        if version != str(_VERSION).encode():
            fix = "use the version of retrank that wrote it, or another database"
            raise StorageError(f"a store of version {_VERSION}", f"version {version!r}", self._where, fix)
        return str(identity.decode())

    def _require_durable(self) -> None:
        try:
            settings = {
                name: self._client.config_get(name)[name] for name in (*_REQUIRED, "maxmemory", "maxmemory-policy")
            }
        except (self._errors.ResponseError, KeyError) as error:
            if str(error).startswith(_LATER):
                raise
            fix = "allow the command CONFIG GET"
            raise ConfigError("a server that tells its settings", str(error), self._where, fix) from error
        for name, value in _REQUIRED.items():
            if settings[name] != value:
                fix = f"with that an acknowledged event could be lost: set {name} {value} in redis.conf"
                raise ConfigError(f"a server with {name} {value}", f"{name} {settings[name]}", self._where, fix)
        policy = settings["maxmemory-policy"]
        if settings["maxmemory"] != "0" and policy.startswith("allkeys"):
            fix = "set maxmemory-policy noeviction in redis.conf"
            raise ConfigError("a server that evicts no events", f"maxmemory-policy {policy}", self._where, fix)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreUnavailableError("an open store", "a closed one", self._where)
        if os.getpid() != self._process:
            fix = "open a store in the process that uses it"
            raise ConfigError("a store of this process", "one that was opened before a fork", self._where, fix)
        try:
            yield
        except self._errors.RedisError as error:
            got = f"{type(error).__name__}: {error}"
            text = str(error)
            if text.startswith("RETRANK"):
                raise self._gone(text.removeprefix("RETRANK ")) from error
            is_known = isinstance(error, self._errors.ResponseError) and not text.startswith(_LATER)
            if is_known and not isinstance(error, self._errors.ReadOnlyError | self._errors.OutOfMemoryError):
                raise StorageError("a sound store of events", got, self._where, "restore the database") from error
            fix = "check that the server runs, who may connect and its memory and disk"
            raise StoreUnavailableError("a server that answers in time", got, self._where, fix) from error

    def _gone(self, got: str) -> StorageError:
        fix = "bring the database back, or open the store again"
        return StorageError(f"the store {self._identity}", got, self._where, fix)


def _field(kind: Kind, key: Key) -> str:
    return f"{kind} {format_key(key)}"


def _content(stored: bytes) -> bytes | None:
    return stored[1:] if stored.startswith(b"+") else None


def _document(field: bytes, content: bytes) -> Document:
    kind, _, key = field.decode().partition(" ")
    return Document("query" if kind == "query" else "candidate", parse_key(key), _content(content))


def _event(text: bytes) -> Event:
    return Event(*json.loads(text))


def _impression(text: bytes, scores: bytes, probabilities: bytes) -> Impression:
    list_id, query, time, keys, bundle = json.loads(text)
    return Impression(list_id, query, time, tuple(keys), unpack_floats(scores), unpack_floats(probabilities), bundle)


def _position(name: bytes) -> int:
    return int(name.partition(b"-")[0])
