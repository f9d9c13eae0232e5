"""Events that come twice, at once, out of time, of strangers, or in a flood."""

import asyncio
import itertools
import time

from tests.recommender.song_world import KNOWN

from retrank.serving.live import Live
from retrank.serving.settings import EVENT_TYPES
from retrank.serving.stores import Event, open_store
from retrank.serving.stores.records import Change


async def post(client, *events):
    answer = await client.post("/events", {"events": list(events)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def recommended(client, query):
    answer = await client.post("/recommend", {"query": query, "k": 100})
    assert answer.status_code == 200, answer.text
    assert "degraded" not in answer.json()
    return [item["key"] for item in answer.json()["items"]]


def test_the_same_event_from_several_clients_at_once_counts_once(make_client, tmp_path):
    workers = [make_client(store=open_store(tmp_path / "events.db")) for _ in range(3)]

    async def main():
        for number in range(30):
            event = {"query": "visitor", "candidate": f"s{number % 5}", "type": "like", "id": f"e{number}"}
            answers = await asyncio.gather(*(post(worker, event, event) for worker in workers for _ in range(2)))
            assert sum(answer["accepted"] for answer in answers) == 1
            assert sum(answer["duplicates"] for answer in answers) == 11
        for worker in workers:
            assert not {f"s{number}" for number in range(5)} & set(await recommended(worker, "visitor"))
            assert worker.service.serving.live.position == 30
            assert worker.service.serving.live.num_refused == 0

    asyncio.run(main())


def test_a_clock_that_goes_backwards(make_client, monkeypatch):
    client = make_client()
    now = time.time_ns()
    backwards = itertools.count()
    monkeypatch.setattr("retrank.serving.events.time.time_ns", lambda: now - next(backwards) * 10**12)

    async def main():
        for number, key in enumerate((await recommended(client, KNOWN[0]))[:5]):
            assert await post(client, {"query": KNOWN[0], "candidate": key, "type": "like"}) == {
                "accepted": 1, "duplicates": 0,
            }  # fmt: skip
            assert key not in await recommended(client, KNOWN[0])
            assert client.service.serving.live.position == number + 1
        changes = client.service.store.changes(0)
        assert [change.position for change in changes] == [1, 2, 3, 4, 5]
        assert client.service.serving.live.num_refused == 0

    asyncio.run(main())


def test_strangers_in_events_are_kept_and_hurt_nobody(make_client):
    client = make_client()

    async def main():
        before = await recommended(client, KNOWN[0])
        await post(
            client,
            {"query": "nobody", "candidate": before[0], "type": "like"},
            {"query": KNOWN[0], "candidate": "nothing", "type": "like"},
            {"query": "nobody", "candidate": "nothing", "type": "hide"},
        )
        assert set(await recommended(client, KNOWN[0])) == set(before)
        assert before[0] not in await recommended(client, "nobody")
        song = {"features": {"year": 1990, "artist": "a1"}}
        assert (await client.http.put("/items/nothing", json=song)).status_code == 200
        assert "nothing" not in await recommended(client, KNOWN[0])  # it was liked before it was there
        assert "nothing" not in await recommended(client, "nobody")
        assert "nothing" in await recommended(client, KNOWN[1])
        assert client.service.serving.live.num_refused == 0

    asyncio.run(main())


def test_what_is_hidden_and_shown_again_takes_no_memory(recommender):
    live = Live(recommender, version="v1", event_types=EVENT_TYPES)
    kinds = ("hide", "unhide", "skip", "unhide")
    for page in range(20):
        names = [(page * 400 + n, f"u{n // 4}", kinds[n % 4]) for n in range(400)]
        live.bring_in([Change(n + 1, Event(str(n), query, "s1", kind, 0)) for n, query, kind in names])
    assert live.position == 8_000
    assert not live._hidden
    assert live.recommender is recommender
