"""What only a store in a file of SQLite does."""

import os
import resource
import sqlite3
import stat
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.serving.stores.values import event, impression, items

from retrank.core.errors import StorageError, StoreUnavailableError
from retrank.serving.stores import Document, open_store
from retrank.serving.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@contextmanager
def files_of_at_most(num_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_only_the_owner_may_read_it(path):
    before = os.umask(0)
    try:
        with open_store(path) as store:
            store.append_events([event(1)])
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600}


def test_events_and_documents_wait_for_the_disk_and_impressions_do_not(path):
    with SqliteStore(path) as store:
        modes = []

        def note(statement):
            if statement.startswith("begin"):
                modes.append(levels[-1])
            if statement.startswith("pragma synchronous"):
                levels.append(statement.split()[-1])

        with store._writers.borrowed() as connection:
            assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
            assert connection.execute("pragma synchronous").fetchone() == (2,), "full"
            levels = ["full"]
            connection.set_trace_callback(note)
        store.append_events([event(1)])
        store.log_impressions([impression(1)])
        store.put([Document("query", 1, b"")])
        store.log_impressions([impression(1)])
        store.forget_impressions(10)
        store.append_events([event(2)])
    assert modes == ["full", "normal", "full", "normal", "normal", "full"]


def test_a_full_disk_takes_nothing_and_harms_nothing(path):
    with open_store(path) as store:
        store.append_events([event(n) for n in range(10)])
        store.put([Document("query", 1, b"old")])
        store.log_impressions([impression(1)])
        before = store.changes(0), store.position(), store.impressions()
        with files_of_at_most(200_000):
            for write in (
                lambda: store.append_events([event(f"new-{n}", query="x" * 1_000) for n in range(1_000)]),
                lambda: store.put([Document("query", n, b"x" * 1_000) for n in range(1_000)]),
                lambda: store.log_impressions([impression(n, keys=["x" * 1_000]) for n in range(1_000)]),
            ):
                with pytest.raises(StoreUnavailableError):
                    write()
                assert (store.changes(0), store.position(), store.impressions()) == before
        assert store.append_events([event(0), event("new-0")]) == [False, True]
        assert items(store)[-1] == event("new-0")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    "content", [b"a table,of something\n" * 100, b"x", bytes(8192), b"SQLite format 3\0" + bytes(5000)]
)
def test_another_file_is_refused_and_left_as_it_is(path, content):
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        open_store(path)
    assert not isinstance(caught.value, StoreUnavailableError)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_database_is_refused_and_left_as_it_is(path, mode):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("create table events (mine)")
        connection.commit()
    content = path.read_bytes()
    with pytest.raises(StorageError, match="another database"):
        open_store(path)
    assert path.read_bytes() == content


def test_another_version_is_refused(path):
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 999")
    with pytest.raises(StorageError, match="version 999"):
        open_store(path)


def test_a_damaged_file_ends_in_an_error_of_ours(path):
    with open_store(path) as store:
        store.append_events([event(n, query="x" * 500) for n in range(500)])
        store.put([Document("query", n, b"x" * 500) for n in range(100)])
    content = bytearray(path.read_bytes())
    for first in range(4096 * 3, len(content), 4096):
        content[first : first + 4000] = b"\xa5" * 4000
    path.write_bytes(content)
    with pytest.raises(StorageError), open_store(path) as store:
        store.changes(0)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError), open_store(path) as store:
        store.changes(0)


def test_a_folder_or_a_missing_one_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "events.db"):
        with pytest.raises(StoreUnavailableError, match=path.name):
            open_store(path)


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_into_a_file_that_is_gone(path, replaced):
    with open_store(path) as store:
        store.append_events([event(1)])
        path.rename(path.with_suffix(".old"))
        if replaced:
            path.write_bytes(b"")
        for write in (
            lambda: store.append_events([event(2)]),
            lambda: store.put([Document("query", 1, b"")]),
            lambda: store.log_impressions([impression(1)]),
            store.check,
        ):
            with pytest.raises(StoreUnavailableError, match="the file that was opened"):
                write()
        path.with_suffix(".old").replace(path)
        assert store.append_events([event(1), event(2)]) == [False, True]


def test_another_writer_is_waited_for_no_longer_than_allowed(path):
    with SqliteStore(path, timeout=0.1) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.append_events([event(1)])
        assert store.position() == 0, "readers do not wait"
        other.execute("rollback")
        assert store.append_events([event(1)]) == [True]


def test_connections_are_shared_and_closed(path):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else None
    store = open_store(path)
    for _ in range(100):
        store.position()
        store.append_events([event(1)])
    assert len(store._pool._idle) == len(store._writers._idle) == 1
    store.close()
    if before is not None:
        assert len(list(descriptors.iterdir())) == before
    assert [p.name for p in path.parent.iterdir()] == ["events.db"], "the last to close tidies up"
