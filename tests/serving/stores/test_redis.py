"""What only a store in Redis does."""

import pytest
from tests.serving.stores.values import event, impression, items

from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError
from retrank.serving.stores import Document, open_store


@pytest.fixture
def settings(redis):
    """Set settings of the server, until the end of the test."""
    before = {}

    def change(name, value):
        before.setdefault(name, redis.ask("config", "get", name).partition("\n")[2])
        assert redis.ask("config", "set", name, value) == "OK"

    yield change
    for name, value in before.items():
        redis.ask("config", "set", name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("appendonly", "no"), ("appendfsync", "everysec"), ("appendfsync", "no"), ("no-appendfsync-on-rewrite", "yes")],
)
def test_a_server_that_could_lose_events_is_refused(redis, settings, name, value):
    with open_store(redis.url) as store:
        settings(name, value)
        with pytest.raises(ConfigError, match=name) as caught:
            open_store(redis.url)
        assert value in str(caught.value)
        with pytest.raises(ConfigError, match=name):
            store.check()


def test_a_server_that_could_evict_events_is_refused(redis, settings):
    settings("maxmemory-policy", "allkeys-lru")
    open_store(redis.url).close()  # nothing is evicted without a limit
    settings("maxmemory", "100mb")
    with pytest.raises(ConfigError, match="maxmemory-policy"):
        open_store(redis.url)


def test_a_server_that_does_not_tell_its_settings_is_refused(redis):
    redis.ask("acl", "setuser", "limited", "on", ">secret", "~*", "+@all", "-config")
    try:
        with pytest.raises(ConfigError, match="CONFIG GET"):
            open_store(redis.url.replace("unix://", "unix://limited:secret@"))
    finally:
        redis.ask("acl", "deluser", "limited")


def test_a_full_memory_takes_nothing_and_harms_nothing(redis, settings):
    with open_store(redis.url) as store:
        store.append_events([event(1)])
        settings("maxmemory", "1")
        for write in (
            lambda: store.append_events([event(n) for n in range(2, 9)]),
            lambda: store.put([Document("query", 1, b"")]),
            lambda: store.log_impressions([impression(1)]),
        ):
            with pytest.raises(StoreUnavailableError, match="OOM|memory"):
                write()
        assert items(store) == [event(1)]
        settings("maxmemory", "0")
        assert store.append_events([event(1), event(2)]) == [False, True]


def test_a_replica_is_not_written_to(redis):
    with open_store(redis.url) as store:
        redis.ask("replicaof", "127.0.0.1", "1")
        try:
            with pytest.raises(StoreUnavailableError, match="READONLY|read only"):
                store.append_events([event(1)])
            with pytest.raises(StoreUnavailableError, match="slave"):
                store.check()
        finally:
            redis.ask("replicaof", "no", "one")
        assert store.append_events([event(1)]) == [True]


def test_another_version_or_another_thing_under_our_keys_is_refused(redis):
    open_store(redis.url).close()
    redis.ask("hset", "{retrank}:store", "version", "999")
    with pytest.raises(StorageError, match="version"):
        open_store(redis.url)
    redis.clear()
    redis.ask("set", "{retrank}:store", "something else")
    with pytest.raises(StorageError, match="WRONGTYPE"):
        open_store(redis.url)


def test_a_url_of_another_database_is_another_store(redis):
    with open_store(redis.url) as one, open_store(f"{redis.url}?db=1") as other:
        assert one.identity() != other.identity()
        one.append_events([event(1)])
        assert other.position() == 0


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://host/zero?socket_timeout=soon"])
def test_a_url_that_is_none_is_refused(url):
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="URL"):
        open_store(url)
