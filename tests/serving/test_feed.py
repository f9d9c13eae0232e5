"""What is new in a store: never older than the question, and never waited for."""

import threading
import time

import pytest
from tests.serving.stores.values import event
from tests.serving.unreliable_store import UnreliableStore

from retrank.core.errors import StorageError, StoreUnavailableError
from retrank.serving.feed import Feed, new_changes
from retrank.serving.stores import open_store


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "events.db") as kept:
        store = UnreliableStore(kept)
        yield store
        store.go_on()


@pytest.fixture
def feed(store):
    feed = Feed(store, patience=30.0)  # no test rests on a machine that is fast
    yield feed
    feed.close()


def positions(changes):
    return [change.position for change in changes]


def eventually(ask):
    until = time.monotonic() + 60
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("is_server", [True, False])
def test_changes_come_in_order_a_page_at_a_time(store, is_server):
    store.is_server = is_server
    feed = Feed(store, patience=30.0)
    assert feed.after(0) == []
    store.append_events([event(n) for n in range(1_500)])
    first = feed.after(0)
    second = feed.after(first[-1].position)
    assert positions([*first, *second]) == list(range(1, 1_501))
    assert feed.after(1_500) == []
    assert feed.position == 1_500
    feed.close()


def test_a_server_that_hangs_is_not_waited_for_and_asked_once(store):
    feed = Feed(store, patience=0.01)
    store.append_events([event(1)])
    store.hang()
    before = store.num_calls
    for _ in range(1_000):
        with pytest.raises(StoreUnavailableError, match="an answer in"):
            feed.after(0)
        if feed._failed:
            feed._failed = (0.0, feed._failed[1])  # as if time went by
    assert store.num_calls == before + 1
    store.go_on()
    feed._patience = 30.0
    assert positions(eventually(lambda: feed.after(0))) == [1]
    feed.close()


def test_a_late_answer_is_used_and_then_asked_anew(store, feed):
    store.append_events([event(1)])
    store.hang()
    feed._patience = 0.01
    with pytest.raises(StoreUnavailableError):
        feed.after(0)
    feed._patience = 30.0
    store.go_on()
    feed._asked[1].result(60)
    store.append_events([event(2)])  # after the late answer was made
    assert positions(eventually(lambda: feed.after(0))) == [1]
    assert positions(eventually(lambda: feed.after(1))) == [2]
    assert feed.after(2) == []


def test_a_late_answer_to_another_question_is_not_used(store, feed):
    store.append_events([event(1), event(2)])
    store.hang()
    feed._patience = 0.01
    with pytest.raises(StoreUnavailableError):
        feed.after(0)
    feed._patience = 30.0
    store.go_on()
    assert positions(eventually(lambda: feed.after(1))) == [2]


def test_what_was_kept_before_a_question_is_in_its_answer(store, feed):
    """Also while another thread writes: an acknowledged event is never missed."""
    acknowledged = 0

    def write():
        nonlocal acknowledged
        for n in range(300):
            store.append_events([event(n)])
            acknowledged = n + 1

    writer = threading.Thread(target=write)
    writer.start()
    known = 0
    while known < 300:
        expected = acknowledged
        while changes := feed.after(known):
            known = changes[-1].position
        assert known >= expected
    writer.join()


def test_a_store_that_has_failed_is_left_alone_for_a_moment(store, feed):
    store.refuse()
    with pytest.raises(StoreUnavailableError):
        feed.after(0)
    before = store.num_calls
    feed._failed = (time.monotonic() + 60, feed._failed[1])
    with pytest.raises(StoreUnavailableError):
        feed.after(0)
    assert store.num_calls == before
    store.error = None
    feed._failed = (0.0, feed._failed[1])
    assert feed.after(0) == []


def test_a_store_that_lacks_what_it_had_is_another(store, tmp_path):
    store.append_events([event(1), event(2)])
    with pytest.raises(StorageError, match="a store at position 3 or later") as caught:
        new_changes(store, 3)
    assert not isinstance(caught.value, StoreUnavailableError)


def test_a_file_that_was_deleted_or_replaced_is_noticed(tmp_path):
    path = tmp_path / "events.db"
    with open_store(path) as store:
        store.append_events([event(1)])
        feed = Feed(store)
        assert positions(feed.after(0)) == [1]
        path.rename(tmp_path / "elsewhere.db")
        with pytest.raises(StorageError):
            feed.after(1)
        with open_store(path), pytest.raises(StorageError):
            new_changes(store, 1)
