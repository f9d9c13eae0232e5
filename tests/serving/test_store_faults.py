"""A store that hangs, goes, is full or is replaced: recommendations go on and say so, writes get 503."""

import asyncio
import time

import pytest
from tests.recommender.song_world import KNOWN
from tests.serving.stores.values import impression
from tests.serving.unreliable_store import UnreliableStore

from retrank.core.errors import StorageError
from retrank.serving.impressions import ImpressionLog
from retrank.serving.settings import Limits
from retrank.serving.stores import open_store


@pytest.fixture
def client(make_client, tmp_path):
    store = UnreliableStore(open_store(tmp_path / "events.db"))
    client = make_client(store=store, limits=Limits(deadline=0.1))
    yield client
    store.go_on()
    store.error = None


def like(candidate, name):
    return {"events": [{"query": KNOWN[0], "candidate": candidate, "type": "like", "id": name}]}


async def recommended(client):
    answer = await client.post("/recommend", {"query": KNOWN[0], "k": 100})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [item["key"] for item in body["items"]], body.get("degraded")


async def until_it_knows(client, expected):
    until = time.monotonic() + 60
    while True:
        keys, degraded = await recommended(client)
        if degraded is None:
            assert expected(keys)
            return
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


SONG = {"year": 1990, "artist": "a1"}
CHANGES = [
    ("POST", "/events", like("s1", "x")), ("PUT", f"/users/{KNOWN[0]}", {"age": 30}),
    ("PATCH", f"/users/{KNOWN[0]}", {"age": 30}), ("DELETE", f"/users/{KNOWN[0]}", None),
    ("PUT", "/items/s1", {"features": SONG}), ("PATCH", "/items/s1", {"available": False}),
    ("DELETE", "/items/s1", None),
]  # fmt: skip


@pytest.mark.parametrize("fault", ["hang", "refuse"])
def test_recommendations_go_on_and_changes_get_503(client, fault):
    store = client.service.store

    async def main():
        (first, *_), degraded = await recommended(client)
        assert degraded is None
        getattr(store, fault)()
        for _ in range(3):
            keys, degraded = await recommended(client)
            assert degraded == ["store"]
            assert first in keys
        for method, path, body in CHANGES:
            answer = await client.http.request(method, path, json=body)
            assert answer.status_code == 503, (method, path, answer.text)
            assert answer.headers["retry-after"] == "1"
        assert (await client.http.get(f"/users/{KNOWN[0]}")).status_code == 503
        assert (await client.http.get("/items/s1")).status_code == 200
        ready = await client.http.get("/readyz")
        assert (ready.status_code, ready.json()["degraded"]) == (200, ["store"])
        assert "retrank_degraded 1.0" in (await client.http.get("/metrics")).text
        status = (await client.http.get("/status")).json()["store"]
        assert (status["answers"], status["position"]) == (False, None)
        store.error = None
        store.go_on()
        until = time.monotonic() + 60
        while (answer := await client.post("/events", like(first, "one"))).status_code == 503:
            assert time.monotonic() < until
        assert answer.status_code == 200
        await until_it_knows(client, lambda keys: first not in keys)
        assert (await client.http.get("/readyz")).json()["degraded"] == []
        assert "retrank_degraded 0.0" in (await client.http.get("/metrics")).text
        assert (await client.http.get("/status")).json()["store"]["answers"]

    asyncio.run(main())


def test_a_store_that_answers_again_is_noticed_without_requests(client):
    async def main():
        client.service.store.refuse()
        looking = asyncio.create_task(client.service.keep_up())
        until = time.monotonic() + 60
        for expected in (("store",), ()):
            while client.service.degraded != expected:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)
            client.service.store.error = None
        looking.cancel()

    asyncio.run(main())


def test_a_store_without_what_it_had_is_not_written_to(client, tmp_path, caplog):
    store = client.service.store

    async def main():
        (first, second, *_), _ = await recommended(client)
        for name, key in (("a", first), ("b", second)):
            assert (await client.post("/events", like(key, name))).status_code == 200
        await until_it_knows(client, lambda keys: first not in keys)
        before = store.store
        with open_store(tmp_path / "backup.db") as backup:
            store.store = backup
            keys, degraded = await recommended(client)
            assert (first in keys, degraded) == (False, ["store"])
            assert [record.levelname for record in caplog.records].count("ERROR") == 1
            answer = await client.post("/events", like(first, "c"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert (await client.http.put("/items/s1", json={"features": SONG})).status_code == 503
            assert backup.position() == 0
            store.store = before
        until = time.monotonic() + 60
        while client.service.degraded:
            assert time.monotonic() < until
            await client.service.look()
        assert (await client.post("/events", like(first, "c"))).json() == {"accepted": 1, "duplicates": 0}

    asyncio.run(main())


def test_a_damaged_store_is_not_a_fault_of_the_request(client):
    client.service.store.error = StorageError("a sound store", "a damaged one", "the store")

    async def main():
        assert (await recommended(client))[1] == ["store"]
        assert (await client.post("/events", like("s1", "c"))).status_code == 503

    asyncio.run(main())


def test_what_is_unexpected_of_a_store_is_no_fault_of_the_request(client):
    client.service.store.error = RuntimeError("a driver's own error")
    assert asyncio.run(recommended(client))[1] == ["store"]


def test_much_that_is_new_is_brought_in_bit_by_bit(client, monkeypatch):
    monkeypatch.setattr("retrank.serving.service._CATCHING_UP", 0.0)
    monkeypatch.setattr("retrank.serving.feed._PAGE", 10)

    async def main():
        await recommended(client)
        events = [{"query": "stranger", "candidate": "s1", "type": "view"} for _ in range(35)]
        assert (await client.post("/events", {"events": events})).status_code == 200
        assert [(await recommended(client))[1] for _ in range(5)] == [["store"]] * 3 + [None] * 2
        assert client.service.serving.live.position == 35

    asyncio.run(main())


class _Counter:
    def __init__(self):
        self.lost_impressions, self.count = self, 0

    def inc(self, count=1):
        self.count += count


def test_impressions_that_wait_are_bounded_and_those_that_are_lost_are_counted(tmp_path):
    store, lost = UnreliableStore(open_store(tmp_path / "events.db")), _Counter()
    store.refuse()
    log = ImpressionLog(store, lost, most=40)
    for n in range(30):
        log.add(impression(n))
    kept = len(log._waiting)
    assert 0 < kept < 30
    assert lost.count == 30 - kept
    log._write()  # fails
    assert len(log._waiting) == kept
    log.close()
    assert lost.count == 30
    store.error = None
    assert store.impressions() == []
    log = ImpressionLog(store, lost, most=40)
    for n in range(30):
        log.add(impression(n))
    log.close()
    assert lost.count == 30 + 30 - kept
    assert [one.list_id for _, one in store.impressions()] == [impression(n).list_id for n in range(30 - kept, 30)]
    store.close()
