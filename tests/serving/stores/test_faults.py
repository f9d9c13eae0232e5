"""Servers and writers that are killed, stopped, paused or out of room."""

import subprocess
import sys
import threading
import time

import pytest
from tests.serving.stores.servers import SECONDS, Postgres
from tests.serving.stores.values import event, impression, items
from tests.serving.stores.writers import write

from retrank.core.errors import StorageError, StoreUnavailableError
from retrank.serving.stores import Document, open_store
from retrank.serving.stores.postgres import PostgresStore
from retrank.serving.stores.redis import RedisStore


def ids(store):
    return [e.id for e in items(store) if not isinstance(e, Document)]


def eventually(ask):
    """Ask until the store is there again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.slow
def test_what_was_acknowledged_outlives_the_server(server):
    acknowledged = []
    with open_store(server.url) as store:
        threads = [
            threading.Thread(target=write, args=(store, f"t{n}", 600, acknowledged.extend), daemon=True)
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for wanted in (200, 500, 900):
            while len(acknowledged) < wanted:
                time.sleep(0.002)
            server.kill()
            before = set(acknowledged)
            server.start()
            assert before <= set(eventually(lambda: ids(store)))
        for thread in threads:
            thread.join()
        assert sorted(ids(store)) == sorted(acknowledged)
        assert len(set(acknowledged)) == len(acknowledged) == 1800


@pytest.mark.slow
def test_what_was_acknowledged_outlives_the_writer(url):
    with open_store(url) as store:
        line = [sys.executable, "-m", "tests.serving.stores.writers", url, "w", "100000"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as writer:
            said = [writer.stdout.readline().strip() for _ in range(100)]
            writer.kill()
            said += writer.stdout.read().split("\n")[:-1]  # what comes after the last line break is half a line
        found = ids(store)
        assert len(set(found)) == len(found)
        assert set(said) <= set(found)
        assert len(found) <= len(said) + 3, "at most the group that was not acknowledged yet"
        assert len(found) % 3 == 0, "groups are kept whole"
        assert store.append_events([event("next")]) == [True]


def test_a_store_that_is_down_says_so_and_comes_back(server):
    with open_store(server.url) as store:
        store.append_events([event(1)])
        server.stop()
        for ask in (
            store.position,
            store.check,
            lambda: store.changes(0),
            lambda: store.get("query", 1),
            lambda: store.append_events([event(2)]),
            lambda: store.put([Document("query", 1, b"")]),
            lambda: store.log_impressions([impression(1)]),
            lambda: store.impressions(),
            lambda: store.forget_impressions(0),
        ):
            with pytest.raises(StoreUnavailableError, match="a server that answers in time"):
                ask()
        with pytest.raises(StoreUnavailableError):
            open_store(server.url)
        server.start()
        assert store.append_events([event(1), event(2)]) == [False, True]
        assert items(store) == [event(1), event(2)]
        store.check()


def test_a_restart_between_two_calls_is_not_noticed(server):
    with open_store(server.url) as store:
        store.append_events([event(1)])
        server.stop()
        server.start()
        assert store.append_events([event(2)]) == [True]
        assert ids(store) == ["1", "2"]


def test_a_server_that_hangs_is_waited_for_no_longer_than_allowed(server):
    kind = PostgresStore if isinstance(server, Postgres) else RedisStore
    with kind(server.url, timeout=0.3) as store:
        store.append_events([event(1)])
        server.pause()
        try:
            for ask in (store.position, lambda: store.append_events([event(2)])):
                with pytest.raises(StoreUnavailableError):
                    ask()
        finally:
            server.resume()
        assert eventually(lambda: store.append_events([event(3)])) == [True]
        # What was sent to the server before it hung may have been done; it is whole, and sending it again is safe.
        store.append_events([event(2)])
        assert sorted(ids(store)) == ["1", "2", "3"]


def test_an_emptied_server_is_another_store(server):
    with open_store(server.url) as store:
        store.append_events([event(1)])
        store.put([Document("query", 1, b"1")])
        server.clear()
        for ask in (
            store.position,
            lambda: store.changes(0),
            lambda: store.get("query", 1),
            lambda: store.append_events([event(2)]),
            lambda: store.put([Document("query", 1, b"")]),
            lambda: store.log_impressions([impression(1)]),
        ):
            with pytest.raises(StorageError) as caught:
                ask()
            assert not isinstance(caught.value, StoreUnavailableError), "waiting does not help"
        with open_store(server.url) as other:
            assert other.identity() != store.identity()
            assert other.position() == 0


def test_a_store_put_in_the_place_of_another_is_not_written_to(server):
    with open_store(server.url) as store:
        store.append_events([event(1)])  # has a connection that lies idle
        server.clear()
        with open_store(server.url) as other:
            for ask in (
                store.position,
                lambda: store.append_events([event(2)]),
                lambda: store.put([Document("query", 1, b"")]),
            ):
                with pytest.raises(StorageError, match="another|the store"):
                    ask()
            assert other.changes(0) == []


def test_the_password_is_in_no_message(server):
    url = (
        server.url.replace("postgres@", "postgres:secret@")
        if isinstance(server, Postgres)
        else server.url + "?password=secret"
    )
    server.stop()
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
