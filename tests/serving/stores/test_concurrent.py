"""Threads and processes that write and read one store at the same time."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.serving.stores.values import event, impression, items
from tests.serving.stores.writers import follow_while, read

from retrank.core.errors import ConfigError
from retrank.serving.stores import Document, open_store


def in_process(*words):
    line = [sys.executable, "-m", "tests.serving.stores.writers", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("num_stores", [1, 2])
def test_a_reader_misses_nothing_that_threads_write(url, num_stores):
    stores = [open_store(url) for _ in range(num_stores)]
    seen, acknowledged = follow_while(stores, writers=4)
    assert (
        sorted(seen) == sorted(acknowledged) == sorted({e.id for e in items(stores[0]) if not isinstance(e, Document)})
    )
    assert len(acknowledged) == 4 * 60
    for store in stores:
        store.close()


@pytest.mark.slow
def test_a_reader_misses_nothing_that_processes_write(url):
    with open_store(url) as store:
        processes = [in_process(url, f"p{n}", 200) for n in range(3)]
        seen = read(store, lambda: all(process.poll() is not None for process in processes))
        said = []
        for process in processes:
            out, err = process.communicate()
            assert process.returncode == 0, err
            said += out.split()
    assert len(said) == 600
    assert sorted(seen) == sorted(said)


def test_an_event_is_new_to_one_of_those_who_send_it(url):
    with open_store(url) as one, open_store(url) as other:
        start = threading.Barrier(4)

        def send(store):
            start.wait()
            return [store.append_events([event(n), event(n + 1)]) for n in range(20)]

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(send, [one, other, one, other]))
        assert sum(is_new for answer in answers for pair in answer for is_new in pair) == 21
        assert sorted(int(e.id) for e in items(one)) == list(range(21))


def test_a_document_written_at_the_same_time_is_one_of_those(url):
    with open_store(url) as store, ThreadPoolExecutor(4) as pool:
        contents = [str(n).encode() for n in range(40)]
        list(pool.map(lambda c: store.put([Document("query", 1, c), Document("query", 2, c)]), contents))
        assert store.get("query", 1).content == store.get("query", 2).content
        assert [change.item.key for change in store.changes(0)] == [1, 2]
        assert store.position() == 80


def test_impressions_of_several_threads_are_all_there(url):
    with open_store(url) as store, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.log_impressions([impression(n), impression(n)]), range(20)))
        shown = store.impressions()
        assert sorted(int(value.list_id) for _, value in shown) == sorted([*range(20), *range(20)])
        assert len({position for position, _ in shown}) == 40


def test_those_who_open_a_new_store_at_once_share_it(url):
    start = threading.Barrier(6)

    def opened(n):
        start.wait()
        with open_store(url) as store:
            assert store.append_events([event(n)]) == [True]
            return store.identity()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(opened, range(6)))) == 1
    with open_store(url) as store:
        assert sorted(e.id for e in items(store)) == list("012345")


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_share_it(url):
    processes = [in_process(url, f"p{n}", 3) for n in range(4)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    with open_store(url) as store:
        assert len([e for e in items(store) if not isinstance(e, Document)]) == 12


def test_a_store_is_not_carried_through_a_fork(store, url):
    store.append_events([event(1)])
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        for ask in (store.position, lambda: store.append_events([event(2)]), lambda: open_in_child(url)):
            try:
                said.append(str(ask()))
            except ConfigError:
                said.append("refused")
        os.write(writing, " ".join(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    # The memory of SQLite itself does not survive a fork; connections to a server are opened anew.
    assert answer == ("refused refused refused" if url.startswith("sqlite") else "refused refused 1")
    assert items(store) == [event(1)]
    assert store.append_events([event(3)]) == [True]


def open_in_child(url):
    with open_store(url) as store:
        return store.position()
