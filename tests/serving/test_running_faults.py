"""Workers and stores that are killed or hang under load, as processes: nothing that was acknowledged is lost."""

import http.client
import os
import signal
import threading
import time
from urllib.parse import urlsplit

import pytest
from tests.recommender.song_world import serve
from tests.serving.running import SECONDS, ask, children, service
from tests.serving.stores.servers import Postgres, Redis, why_missing

from retrank.serving.stores import open_store

pytestmark = pytest.mark.slow
SONGS = [f"s{n}" for n in range(10)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "bundle"
    serve("baseline").save(place)
    return place


@pytest.fixture
def server(request):
    """A server of a store; None for a file."""
    if request.param is None:
        yield None
        return
    if reason := why_missing(request.param):
        pytest.skip(reason)
    server = request.param()
    if isinstance(server, Postgres):
        server.options = ("-c", "fsync=on")
    try:
        yield server.start()
    finally:
        server.end()


class Client(threading.Thread):
    """Sends events, each until it is acknowledged."""

    def __init__(self, url, name):
        super().__init__(daemon=True)
        self.place, self.name, self.stop = urlsplit(url), name, threading.Event()
        self.acknowledged, self.statuses, self.failures = {}, {}, 0

    def run(self):
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=SECONDS)
        number = 0
        while not self.stop.is_set():
            song = SONGS[number % len(SONGS)]
            event = {"query": f"{self.name}-{number}", "candidate": song, "type": "like", "id": f"{self.name}-{number}"}
            while True:
                try:
                    status, _ = ask(self.place.geturl(), "/events", {"events": [event]}, connection)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    self.failures += 1
                    time.sleep(0.02)
                    continue
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if status == 200:
                    self.acknowledged[event["id"]] = song
                    break
                assert status in (503, 504), status
                time.sleep(0.02)
            number += 1
        connection.close()


def kept(url):
    """Return the ids of all events of a store, in their order."""
    found, after = [], 0
    with open_store(url) as store:
        while page := store.changes(after):
            found += [change.item.id for change in page]
            after = page[-1].position
    return found


def up_to_date(url, body):
    """Return an answer that does not say that it lacks something: also a busy machine makes a store late."""
    end = time.monotonic() + SECONDS
    while True:
        status, answer = ask(url, "/recommend", body)
        assert status == 200
        if "degraded" not in answer:
            return answer
        assert time.monotonic() < end
        time.sleep(0.02)


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("server", [None, Postgres, Redis], indirect=True)
def test_nothing_acknowledged_is_lost_when_workers_and_stores_are_killed(saved, server, tmp_path, record_property):
    url = f"sqlite:///{tmp_path}/events.db" if server is None else server.url
    with service(saved, "--workers", 2, "--store", url, "--no-log-requests") as one:
        one.heard("a worker is ready")
        clients = [Client(one.url, f"c{n}") for n in range(4)]
        for client in clients:
            client.start()
        for _ in range(3):
            seen = sum(len(client.acknowledged) for client in clients)
            until(lambda seen=seen: sum(len(client.acknowledged) for client in clients) > seen + 100)
            os.kill(children(one.process.pid)[0], signal.SIGKILL)
            if server is not None:
                server.kill()
                time.sleep(0.3)
                server.start()
            one.heard("a worker is ready")
        seen = {client.name: len(client.acknowledged) for client in clients}
        until(lambda: all(len(client.acknowledged) > seen[client.name] + 20 for client in clients))
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(SECONDS)
            assert not client.is_alive()
        acknowledged = {name: song for client in clients for name, song in client.acknowledged.items()}
        found = kept(url)
        assert len(found) == len(set(found))
        assert set(acknowledged) == set(found)
        for name, song in list(acknowledged.items())[:: max(1, len(acknowledged) // 25)]:
            for _ in range(4):  # connections that either worker accepts
                answer = up_to_date(one.url, {"query": name, "k": 100})
                assert song not in [item["key"] for item in answer["items"]]
        statuses = {status: sum(c.statuses.get(status, 0) for c in clients) for status in (200, 503, 504)}
        record_property("statuses", statuses)
        record_property("connections that ended", sum(client.failures for client in clients))


@pytest.mark.parametrize("server", [Postgres, Redis], indirect=True)
@pytest.mark.parametrize("fault", ["pause", "stop"])
def test_recommendations_go_on_while_the_store_hangs_or_is_down(saved, server, fault, record_property):
    with service(saved, "--workers", 2, "--store", server.url, "--no-log-requests") as one:
        one.heard("a worker is ready")
        first = ask(one.url, "/recommend", {"query": "u1"})[1]["items"][0]["key"]
        event = {"events": [{"query": "u1", "candidate": first, "type": "like", "id": "one"}]}
        getattr(server, fault)()
        times, end = [], time.monotonic() + 6
        refused = threading.Thread(target=lambda: refusals.append(ask(one.url, "/events", event)[0]))
        refusals = []
        refused.start()
        while time.monotonic() < end:
            started = time.perf_counter()
            status, answer = ask(one.url, "/recommend", {"query": "u1"})
            times.append(time.perf_counter() - started)
            assert status == 200
            assert answer["degraded"] == ["store"]
            assert answer["items"][0]["key"] == first
            time.sleep(0.02)
        refused.join(SECONDS)
        assert refusals == [503]
        assert ask(one.url, "/readyz")[1]["degraded"] == ["store"]
        server.resume() if fault == "pause" else server.start()
        until(lambda: ask(one.url, "/events", event)[0] == 200)
        for _ in range(6):  # connections that either worker accepts
            answer = up_to_date(one.url, {"query": "u1", "k": 100})
            assert first not in [item["key"] for item in answer["items"]]
        assert kept(server.url) == ["one"]
        times.sort()
        record_property("seconds of an answer: median, longest", (times[len(times) // 2], times[-1]))
