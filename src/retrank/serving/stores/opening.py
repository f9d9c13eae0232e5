"""`open_store`: from a URL to a store."""

from pathlib import Path
from typing import Final

from retrank.core.errors import ConfigError
from retrank.serving.stores.postgres import PostgresStore
from retrank.serving.stores.redis import RedisStore
from retrank.serving.stores.sqlite import SqliteStore
from retrank.serving.stores.store import Store

__all__ = ["open_store"]

_KNOWN: Final = "a path, sqlite:///path, postgresql://host/database, redis://host:port/0 or unix:///redis.sock"


def open_store(url: str | Path) -> Store:
    """Open a store, and make it if it is not there yet.

    Args:
        url: where it is:

            - a path, or `sqlite:///` and a path (so `sqlite:////var/lib/events.db` is absolute): a file of SQLite,
              for all processes of one machine.
            - `postgresql://user:password@host/database`: a server, for any number of machines (extra `postgres`).
            - `redis://user:password@host:port/0`, `rediss://` with TLS, or `unix:///path/redis.sock`: a server that
              runs with `appendonly yes` and `appendfsync always`, for any number of machines (extra `redis`).

    Returns:
        The store.

    Raises:
        ConfigError: a URL of another kind, or a server that could lose what it has acknowledged.
        MissingExtraError: the driver for it is not installed.
        StoreUnavailableError: it cannot be reached.
        StorageError: what is there is no store of events, or is damaged.

    Example:
        >>> import tempfile, retrank as rr
        >>> from retrank.serving.stores import Event, open_store
        >>> with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/events.db") as store:
        ...     like = Event("e1", query=42, candidate="a", type="like", time=0)
        ...     store.append_events([like, like])
        ...     [change.item == like for change in store.changes(after=0)]
        [True, False]
        [True]
    """
    scheme, separator, rest = str(url).partition("://")
    if isinstance(url, Path) or not separator:
        return SqliteStore(Path(url))
    if scheme in ("postgresql", "postgres"):
        return PostgresStore(str(url))
    if scheme in ("redis", "rediss", "unix"):
        return RedisStore(str(url))
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(Path(rest[1:]))
    raise ConfigError(_KNOWN, f"{scheme}://...", "the URL of a store")
