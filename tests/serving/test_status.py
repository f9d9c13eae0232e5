"""What /status tells: numbers from the metrics, which only grow."""

import time

import pytest
from prometheus_client import CollectorRegistry, Histogram
from starlette.testclient import TestClient
from tests.recommender.song_world import serve, tables
from tests.serving.film_world import FILMS, USERS, film_service, recommender
from tests.serving.running import ask, service

import retrank as rr
from retrank.core.errors import StoreUnavailableError
from retrank.serving.status_report import histograms


@pytest.fixture
def served(tmp_path):
    service, app = film_service(tmp_path, logs_requests=False)
    with TestClient(app) as client:
        yield service, client


def test_requests_times_and_events_are_counted(served):
    _, client = served
    before = client.get("/status").json()
    for user in USERS:
        assert client.post("/recommend", json={"query": user}).status_code == 200
    client.post("/recommend", json={"query": "ann", "size": 3})
    client.post("/events", json={"events": [{"query": "ann", "candidate": "f1", "type": "like"}]})
    after = client.get("/status").json()
    assert "/recommend 200" not in before["requests"]
    assert after["requests"]["/recommend 200"] == len(USERS)
    assert after["requests"]["/recommend 422"] == 1
    assert after["requests"]["/events 200"] == 1
    assert after["events"] == {"like": 1}
    times = after["seconds"]["/recommend"]
    assert times["counts"][-1] == len(USERS) + 1
    assert times["counts"] == sorted(times["counts"])
    assert len(times["counts"]) == len(times["bounds"]) + 1
    assert after["batch_size"]["counts"][-1] > before["batch_size"]["counts"][-1]


def test_what_serves_is_named(served):
    status = served[1].get("/status").json()
    assert status["stages"] == ["ItemKNN"]
    assert status["index"] is None
    assert (status["num_candidates"], status["num_queries"]) == (len(FILMS), len(USERS))
    assert status["workers"] == 1
    assert status["store"] == {"kind": "Sqlite", "answers": True, "position": 0, "known": 0, "refused_changes": 0}


def test_a_store_that_does_not_answer_is_told(served, monkeypatch):
    service, client = served

    def down(*_):
        raise StoreUnavailableError("a store", "none", "here")

    monkeypatch.setattr(type(service.store), "position", down)
    assert client.get("/status").json()["store"]["answers"] is False


def test_answers_tell_how_long_they_took(served):
    duration = served[1].post("/recommend", json={"query": "ann"}).headers["server-timing"]
    assert duration.startswith("app;dur=")
    assert 0 < float(duration.removeprefix("app;dur=")) < 60_000


def test_histograms_are_read_by_label():
    registry = CollectorRegistry()
    histogram = Histogram("time", "Of.", ["route"], buckets=(1, 2), registry=registry)
    for value in (0.5, 1.5, 1.5, 7):
        histogram.labels("a").observe(value)
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert histograms(samples, "time", "route") == {"a": {"bounds": [1, 2], "counts": [1, 3, 4], "sum": 10.5}}


def test_the_recall_of_an_index_is_told_from_the_card(tmp_path):
    pytest.importorskip("faiss")
    exact = serve("two towers")
    facts = {"kind": "Faiss", "factory": "IVF4,SQ8", "recall@10": 0.995, "queries": 12}
    embeddings = exact.retrieval.embed_candidates(exact.catalogue.batch)
    for index, told in (
        (None, {"kind": "Exact", "is_exact": True}),
        (rr.index.Faiss(embeddings, exact.catalogue.keys, factory="IVF4,SQ8"), {**facts, "is_exact": False}),
    ):
        history, songs = tables()
        made = rr.Recommender(
            exact.retrieval, space=exact.space, catalogue=songs, history=history, index=index, progress=False
        ).with_card(rr.recommender.Card("Songs", facts={"index": facts}))
        _, app = film_service(tmp_path, made, logs_requests=False)
        with TestClient(app) as client:
            assert client.get("/status").json()["index"] == told


@pytest.mark.slow
def test_the_numbers_of_workers_add_up(tmp_path):
    recommender().save(tmp_path / "bundle")
    with service(tmp_path / "bundle", "--workers", 2) as served:
        while ask(served.url, "/status")[1]["workers"] < 2:
            time.sleep(0.1)  # the first answers before the second is there
        for _ in range(30):
            assert ask(served.url, "/recommend", {"query": "ann"})[0] == 200
        status = ask(served.url, "/status")[1]
    assert status["workers"] == 2
    assert status["requests"]["/recommend 200"] == 30
    assert status["seconds"]["/recommend"]["counts"][-1] == 30
    assert status["queue"] == 2 * 1_024
