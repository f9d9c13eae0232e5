"""Processes that write into one store, and die: `python -m tests.serving.stores.writers URL NAME COUNT`.

Every acknowledged event is said on the standard output, so that a test knows what must be there after a kill.
"""

import sys
import threading
import time

from tests.serving.stores.values import event

from retrank.core.errors import StoreUnavailableError
from retrank.serving.stores import Document, open_store


def write(store, name, count, acknowledged):
    """Append events alone and in groups, each of them twice, with documents in between."""
    for n in range(0, count, 3):
        group = [event(f"{name}-{m}") for m in range(n, min(n + 3, count))]
        events = [group[0], *group] if n % 2 else group
        while True:
            try:
                are_new = store.append_events(events)
                break
            except StoreUnavailableError:  # sent again, as a client would
                time.sleep(0.05)
        assert len(are_new) == len(events)
        acknowledged([e.id for e in group])
        if n % 4 == 0:
            try:
                store.put([Document("query", n % 5, f"{name}-{n}".encode())])
            except StoreUnavailableError:
                time.sleep(0.05)


def read(store, finished):
    """Follow a store as a worker does, until `finished` says so and nothing is left; fail if a position was missed."""
    seen, ids = 0, []
    while True:
        is_last = finished()
        while store.position() > seen:
            page = store.changes(seen, limit=7)
            assert page, "the position of the store is that of a change"
            assert [change.position for change in page] == sorted({change.position for change in page})
            assert page[0].position > seen
            seen = page[-1].position
            ids += [change.item.id for change in page if not isinstance(change.item, Document)]
        if is_last:
            return ids


def follow_while(stores, writers):
    """Run writers in threads with a reader beside them; return what the reader saw and what was acknowledged."""
    acknowledged, failures = [], []

    def run(store, name, count):
        try:
            write(store, name, count, acknowledged.extend)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(stores[n % len(stores)], f"t{n}", 60)) for n in range(writers)]
    for thread in threads:
        thread.start()
    seen = read(stores[0], lambda: not any(thread.is_alive() for thread in threads))
    assert not failures
    return seen, acknowledged


if __name__ == "__main__":
    url, name, count = sys.argv[1:]
    with open_store(url) as store:
        write(store, name, int(count), lambda ids: print(*ids, sep="\n", flush=True))  # noqa: T201
