"""What every store does, whatever it is made of."""

import pytest
from tests.serving.stores.values import KEYS, event, impression, items, typed

from retrank.core.errors import ConfigError, DataError, StoreUnavailableError
from retrank.serving.stores import Document, Event, open_store


def test_a_new_store_is_empty(store):
    assert store.position() == 0
    assert store.changes(0) == []
    assert store.impressions() == []
    assert store.get("query", 7) is None
    assert store.append_events([]) == []
    store.put([])
    store.log_impressions([])
    store.check()
    assert store.position() == 0


def test_an_event_comes_back_as_it_was(store):
    events = [
        Event("e1", 7, "a", "like", 1_700_000_000_000_000, 4.5, "list-1"),
        Event("é😀", "7", True, "view", -5, None, None),
        Event("x" * 5_000, "", 0, "hide", 2**63 - 1, -1e300, "l" * 5_000),
        Event("e4", False, "日本", "t", -(2**63), 0.1, None),
    ]
    assert store.append_events(events) == [True] * 4
    assert items(store) == events
    assert [type(e.query) for e in items(store)] == [int, str, str, bool]
    assert [type(e.candidate) for e in items(store)] == [str, bool, int, str]


def test_an_event_is_kept_once(store):
    first = event(1, value=1.0)
    assert store.append_events([first, event(2), event(1, value=2.0)]) == [True, True, False]
    position = store.position()
    assert store.append_events([event(2, type="other"), event(1)]) == [False, False]
    assert store.position() == position, "nothing has changed"
    assert store.append_events([event(3), event(1), event(3)]) == [True, False, False]
    assert items(store) == [first, event(2), event(3)]


def test_positions_ascend_and_the_last_is_the_position_of_the_store(store):
    seen = [0]
    for n in range(5):
        store.append_events([event(f"{n}a"), event(f"{n}b"), event(f"{n}a")])
        assert store.changes(seen[-1])[-1].position == store.position() > seen[-1]
        seen += [change.position for change in store.changes(seen[-1])]
        store.put([Document("candidate", "a", b"1"), Document("candidate", n, b"2")])
        assert store.changes(seen[-1])[-1].position == store.position() > seen[-1]
        seen += [change.position for change in store.changes(seen[-1])]
    assert seen == sorted(set(seen))


def test_documents_count_in_their_latest_version(store):
    store.put([Document("candidate", "a", b"1"), Document("query", "a", b"2"), Document("candidate", "a", b"3")])
    assert items(store) == [Document("query", "a", b"2"), Document("candidate", "a", b"3")]
    position = store.position()
    store.append_events([event(1)])
    store.put([Document("query", "a", None)])
    assert items(store) == [Document("candidate", "a", b"3"), event(1), Document("query", "a", None)]
    assert items(store, after=position) == [event(1), Document("query", "a", None)]
    assert store.get("query", "a") == Document("query", "a", None)
    assert store.get("candidate", "a") == Document("candidate", "a", b"3")
    assert store.get("query", "b") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\0\xff", b"x" * 1_000_000, None])
def test_content_is_opaque(store, content):
    store.put([Document("candidate", 1, content)])
    assert store.get("candidate", 1).content == items(store)[0].content == content


def test_keys_keep_their_types_and_stay_apart(store):
    store.put([Document("query", key, str(n).encode()) for n, key in enumerate(KEYS)])
    for n, key in enumerate(KEYS):
        assert store.get("query", key).content == str(n).encode()
    assert [typed(document.key) for document in items(store)] == [typed(key) for key in KEYS]
    store.append_events([event(n, query=key, candidate=key) for n, key in enumerate(KEYS)])
    assert [typed(e.query) for e in items(store)[len(KEYS) :]] == [typed(key) for key in KEYS]
    assert [typed(e.candidate) for e in items(store)[len(KEYS) :]] == [typed(key) for key in KEYS]


def test_changes_come_in_pages(store):
    for n in range(10):
        store.append_events([event(n)])
        store.put([Document("candidate", n % 3, str(n).encode())])
    whole = store.changes(0)
    assert len(whole) == 13
    for limit in (1, 2, 5, 13, 100):
        pages, after = [], 0
        while page := store.changes(after, limit):
            assert len(page) <= limit
            pages += page
            after = page[-1].position
        assert pages == whole
    assert store.changes(store.position() + 100) == []


def test_impressions_come_back_as_they_were(store):
    shown = [
        impression("l1", keys=KEYS),
        impression("l2", query=None, keys=(), time=-1),
        impression("l3", query=True),
        impression("l3", query="é"),
    ]
    store.log_impressions(shown[:3])
    store.log_impressions(shown[3:])
    positions = [position for position, _ in store.impressions()]
    assert positions == sorted(set(positions))
    assert [value for _, value in store.impressions()] == shown
    assert list(map(typed, store.impressions()[0][1].keys)) == list(map(typed, KEYS))
    assert [typed(value.query) for _, value in store.impressions()] == [typed(value.query) for value in shown]
    assert [value for _, value in store.impressions(positions[0], limit=2)] == shown[1:3]
    assert store.position() == 0, "another count"


def test_old_impressions_are_forgotten(store):
    store.log_impressions([impression(n, time=n % 10) for n in range(2_500)])
    last = store.impressions(after=2_000)[-1][0]
    assert store.forget_impressions(before=5) == 1_250
    assert store.forget_impressions(before=5) == 0
    assert {value.time for _, value in store.impressions()} == {5, 6, 7, 8, 9}
    assert store.forget_impressions(before=100) == 1_250
    assert store.impressions() == []
    store.log_impressions([impression("new")])
    assert [position > last for position, _ in store.impressions()] == [True], "a position names one impression only"


def test_what_was_written_is_there_when_the_store_is_opened_again(url):
    with open_store(url) as store:
        store.append_events([event(1)])
        store.put([Document("query", 1, b"1")])
        store.log_impressions([impression(1)])
        name, position, changes = store.identity(), store.position(), store.changes(0)
    with open_store(url) as store:
        assert (store.identity(), store.position(), store.changes(0)) == (name, position, changes)
        assert store.impressions() == [(store.impressions()[0][0], impression(1))]
        assert store.append_events([event(1), event(2)]) == [False, True]


def test_two_stores_on_one_place_see_each_other(url):
    with open_store(url) as one, open_store(url) as other:
        assert one.identity() == other.identity()
        for n in range(5):
            assert one.append_events([event(n)]) == [True]
            assert other.position() == one.position()
            assert other.append_events([event(n), event(-n - 1)]) == [False, True]
            assert one.changes(0) == other.changes(0)
        one.put([Document("query", 1, b"1")])
        assert other.get("query", 1).content == b"1"


def test_a_closed_store_answers_nothing(url):
    store = open_store(url)
    store.position()
    store.close()
    store.close()
    for ask in (store.position, lambda: store.append_events([event(1)]), store.check, lambda: store.changes(0)):
        with pytest.raises(StoreUnavailableError, match="closed"):
            ask()


def test_a_page_must_be_one(store):
    for after, limit in [(-1, 1), (0, 0), (0, -1), (2**63, 1)]:
        with pytest.raises(ConfigError):
            store.changes(after, limit)
        with pytest.raises(ConfigError):
            store.impressions(after, limit)


def test_what_cannot_be_kept_is_no_key(store):
    for kind, key in [("user", 7), ("query", 1.5), ("query", None), ("query", 2**63), ("query", "\ud800")]:
        with pytest.raises(DataError):
            store.get(kind, key)
