"""A night of a service: events, an update from the store, a reload; everything counts once."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from tests.command_line import retrank
from tests.serving.running import SECONDS, ask, service
from tests.serving.test_updating import models

pytestmark = pytest.mark.slow  # it starts processes that load torch


def put(url, path, body):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=SECONDS)
    connection.request("PUT", path, json.dumps(body), {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def click(url, *pairs):
    events = [{"query": user, "candidate": song, "type": "click", "id": f"{user}-{song}"} for user, song in pairs]
    assert ask(url, "/events", {"events": events})[0] == 200


def keys(url, user):
    status, answer = ask(url, "/recommend", {"query": user, "k": 50})
    assert status == 200
    return [item["key"] for item in answer["items"]]


def num_events(url):
    keys(url, "u5")  # a worker looks at the store before it answers
    return ask(url, "/status")[1]["num_events"]


def test_a_night(tmp_path):
    bundle = tmp_path / "bundle"
    models(fill=30.0).save(bundle)
    with service(bundle) as one:
        before = num_events(one.url)
        assert put(one.url, "/items/s99", {"features": {"year": 2001}}) == 200
        assert put(one.url, "/users/newcomer", {"age": 50}) == 200
        for user in ("newcomer", "u1", "u2", "u3"):
            click(one.url, (user, "s99"), (user, "s03"))
        ask(one.url, "/events", {"events": [{"query": "u4", "candidate": "s05", "type": "hide"}]})
        evening = keys(one.url, "u4")
        known = num_events(one.url)
        assert known == before + 8

        result = retrank("update", bundle, "--store", tmp_path / "bundle-events.sqlite", "--seed", 1)
        assert result.returncode == 0, result.stderr
        assert "8 interactions learned, 0 more kept" in result.stdout
        click(one.url, ("newcomer", "s07"))  # after the cut, before the reload
        result = retrank("reload", bundle)
        assert result.returncode == 0, result.stderr

        assert num_events(one.url) == known + 1
        state = ask(one.url, "/readyz")[1]
        assert state["bundle"] != one.start["version"]
        assert state["refused_changes"] == 0
        morning = keys(one.url, "u4")
        assert "s05" not in [*evening, *morning]
        assert set(morning) == set(evening)
        scores = [ask(one.url, "/recommend", {"query": "u4", "k": 50})[1]["items"] for _ in range(2)]
        assert scores[0] == scores[1]
        assert not {"s99", "s03", "s07"} & set(keys(one.url, "newcomer"))
        click(one.url, ("newcomer", "s07"))  # sent again: nothing happens
        assert num_events(one.url) == known + 1
        card = ask(one.url, "/card")[1]["card"]
        assert card["facts"]["updates"][-1]["new queries"] == 1
