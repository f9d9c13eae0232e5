"""`retrank serve` as it is run: processes, signals, connections."""

import os
import signal
import time

import pytest
from tests.recommender.song_world import serve
from tests.serving.running import Load, ask, children, service

_COUNT = 'retrank_requests_total{route="/recommend"'


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "bundle"
    serve("baseline").save(place)
    return place


@pytest.fixture(scope="module")
def pair(saved):
    """A service of two workers, both ready."""
    with service(saved, "--workers", 2, "--no-log-requests") as one:
        one.heard("a worker is ready")
        yield one


def total(text, name):
    lines = [line for line in text.decode().splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_metrics_of_all_workers_add_up(pair):
    before = total(ask(pair.url, "/metrics")[1], _COUNT)
    loads = [Load(pair.url) for _ in range(4)]
    for load in loads:
        load.start()
    time.sleep(0.5)
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join()
    answered = sum(len(load.answers) for load in loads)
    assert answered
    until = time.monotonic() + 60
    while total(text := ask(pair.url, "/metrics")[1], _COUNT) < before + answered:  # they count after the answer
        assert time.monotonic() < until
    assert total(text, _COUNT) == before + answered
    assert total(text, 'retrank_request_seconds_count{route="/recommend"') == before + answered
    assert total(text, 'retrank_request_seconds_bucket{le="+Inf",route="/recommend"') == before + answered
    assert total(text, "retrank_waiting") == 0
    assert total(text, "retrank_store_position") == 0  # the least, not the sum


def test_a_worker_that_is_killed_is_replaced_and_the_others_answer(pair):
    load = Load(pair.url)
    load.start()
    victim = children(pair.process.pid)[0]
    os.kill(victim, signal.SIGKILL)
    pair.heard("is replaced")
    pair.heard("a worker is ready")
    load.stop.set()
    load.join()
    assert victim not in children(pair.process.pid)
    assert {status for status, _ in load.answers} == {200}
    assert len(load.failures) <= 1  # the request that the victim was answering
    assert ask(pair.url, "/readyz")[0] == 200


def test_events_count_in_every_worker(pair):
    answer = ask(pair.url, "/recommend", {"query": "u3", "k": 1})[1]
    shown = answer["items"][0]["key"]
    event = {"query": "u3", "candidate": shown, "type": "click"}
    assert ask(pair.url, "/events", {"events": [event]})[1] == {"accepted": 1, "duplicates": 0}
    for _ in range(8):  # connections that either worker accepts
        keys = [item["key"] for item in ask(pair.url, "/recommend", {"query": "u3", "k": 60})[1]["items"]]
        assert shown not in keys


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_answers_all_that_was_accepted(saved, kind):
    with service(saved, "--no-log-requests") as one:
        loads = [Load(one.url) for _ in range(4)]
        for load in loads:
            load.start()
        while not all(load.answers for load in loads):
            time.sleep(0.01)
        one.signal(kind)
        assert one.ended() == (0 if kind == signal.SIGTERM else 130)
        for load in loads:
            load.join()
        assert [load.failures for load in loads] == [[]] * 4
        assert {status for load in loads for status, _ in load.answers} == {200}


@pytest.mark.slow
def test_a_damaged_bundle_is_said_in_one_line(saved, tmp_path):
    serve("baseline").save(tmp_path / "bundle")
    (tmp_path / "bundle" / "candidates.parquet").write_bytes(b"")
    with pytest.raises(AssertionError, match=r"candidates\.parquet"), service(tmp_path / "bundle") as _:
        pass
