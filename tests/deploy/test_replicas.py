"""Several services on one store: what docs/deployment.md says of replicas behind a balancer."""

import http.client
import json
import time
from urllib.parse import urlsplit

import pytest
from tests.recommender.song_world import KNOWN, serve
from tests.serving.running import ask, service
from tests.serving.stores.servers import Postgres, why_missing

SECONDS = 60  # for what takes a moment on an idle machine


@pytest.fixture(scope="module")
def postgres():
    if reason := why_missing(Postgres):
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "bundle"
    serve("baseline").save(place)
    return place


def listed(url, key):
    status, answer = ask(url, "/recommend", {"query": key, "k": 5})
    assert status == 200
    return [item["key"] for item in answer["items"]], answer.get("degraded", [])


def click(url, number, key, candidate):
    event = {"id": f"e{number}", "query": key, "candidate": candidate, "type": "click", "time": 1e9 + number}
    return ask(url, "/events", {"events": [event]})[0]


def eventually(is_so):
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_replicas_know_of_each_others_events_and_go_on_without_the_store(saved, postgres):
    with service(saved, "--store", postgres.url) as one, service(saved, "--store", postgres.url) as other:
        key = KNOWN[0]
        best = listed(one.url, key)[0][0]
        assert listed(other.url, key)[0][0] == best
        assert click(one.url, 1, key, best) == 200
        # The very next answer of each.
        assert best not in listed(other.url, key)[0]
        assert best not in listed(one.url, key)[0]

        second = listed(one.url, key)[0][0]
        postgres.kill()
        found, degraded = listed(other.url, key)
        assert found[0] == second
        assert best not in found
        assert degraded == ["store"]
        assert click(one.url, 2, key, second) == 503
        assert ask(one.url, "/readyz")[0] == 200

        postgres.start()
        eventually(lambda: click(one.url, 2, key, second) == 200)
        eventually(lambda: listed(other.url, key)[1] == [])
        assert second not in listed(other.url, key)[0]
        assert best not in listed(other.url, key)[0]
        # One that starts anew knows all of it.
        with service(saved, "--store", postgres.url) as third:
            assert listed(third.url, key) == listed(one.url, key)


@pytest.mark.slow
def test_a_balancer_finds_its_connections_open_after_a_while(saved):
    with service(saved) as one:
        place = urlsplit(one.url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=SECONDS)
        connection.auto_open = False
        connection.connect()
        for pause in (0, 7):  # Uvicorn's own choice is 5 seconds
            time.sleep(pause)
            connection.request(
                "POST", "/recommend", json.dumps({"query": KNOWN[0]}), {"content-type": "application/json"}
            )
            reply = connection.getresponse()
            assert (reply.status, len(json.loads(reply.read())["items"])) == (200, 10)
        connection.close()
