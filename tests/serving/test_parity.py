"""`recommend`, `recommend_many`, HTTP and HTTP in batches give the same ids and the same scores, to the last bit."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry
from tests.recommender.song_world import serve

import retrank as rr
from retrank.recommender import Request
from retrank.serving import Limits, Service, Settings, create_app
from retrank.serving.event_times import HistoryClock
from retrank.serving.live import Live
from retrank.serving.settings import EVENT_TYPES
from retrank.serving.stores import Event, open_store
from retrank.serving.telemetry import Telemetry

QUICKSTART = Path("runs/quickstart")
CLIENTS = 48


def kinds_of_requests(recommender, rng, count, condition):
    """Return requests of each kind as Python and as HTTP have them."""
    query, keys = recommender.query, recommender.queries.index.keys.to_list()
    candidates = recommender.candidates[recommender.candidate].to_list()
    table = recommender.queries.table.drop(query)

    def key():
        return keys[int(rng.integers(len(keys)))]

    def some(most):
        return [candidates[int(place)] for place in rng.choice(len(candidates), rng.integers(1, most), replace=False)]

    def features():
        return {
            name: value
            for name, value in table.row(int(rng.integers(len(table))), named=True).items()
            if value is not None
        }

    def http(asked, **rules):
        return asked, rules

    makers = {
        "plain": lambda: http({query: key()}, k=int(rng.integers(1, 30))),
        "allow and deny": lambda: http(
            {query: key()}, allow=some(40), deny=some(10), exclude_seen=bool(rng.integers(2))
        ),
        "where": lambda: http({query: key()}, where=f"{condition} {int(rng.integers(1975, 1995))}"),
        "new query with features": lambda: http({query: f"new {rng.integers(10**9)}", **features()}),
        "session": lambda: http({}, history=some(12)),
    }
    return {name: [maker() for _ in range(count)] for name, maker in makers.items()}


def http_of(query, rules, name):
    if "history" in rules:
        return "/session/recommend", {**rules, "features": query}
    return "/recommend", {"query": query[name] if len(query) == 1 else query, **rules}


def lists_of(table, recommender):
    """Return the lists of many requests, of which empty ones are not there."""
    starts = (table["rank"] == 1).arg_true().to_list()
    rows = list(table.select(recommender.candidate, "score").iter_rows())
    return [rows[start:end] for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def events_of(recommender, rng, count):
    keys = recommender.queries.index.keys.to_list()
    candidates = recommender.candidates[recommender.candidate].to_list()
    return [
        Event(
            id=f"e{number}",
            query=keys[int(rng.integers(len(keys)))] if number % 3 else f"new {number % 50}",
            candidate=candidates[int(rng.integers(len(candidates)))],
            type="like",
            time=1_900_000_000_000_000 + number * 1_000_000,
        )
        for number in range(count)
    ]


async def over_http(service, requests, name):
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http:
        turns = asyncio.Semaphore(CLIENTS)

        async def ask(query, rules):
            path, body = http_of(query, rules, name)
            async with turns:
                answer = await http.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return [(item["key"], item["score"]) for item in answer.json()["items"]]

        alone = await asyncio.gather(*(ask(query, rules) for query, rules in requests))
        bodies = [http_of(query, rules, name)[1] for query, rules in requests if "history" not in rules]
        answer = await http.post("/recommend/batch", json={"requests": bodies})
        together = [[(item["key"], item["score"]) for item in one["items"]] for one in answer.json()["answers"]]
        return alone, together or alone


def check(recommender, tmp_path, count, condition):
    rng = np.random.default_rng(0)
    store = open_store(tmp_path / "events.sqlite")
    live = Live(recommender, version="v", event_types=EVENT_TYPES)
    settings = Settings(limits=Limits(body_bytes=2**24, deadline=60))
    service = Service(live, store, settings, Telemetry(CollectorRegistry()))
    asked = kinds_of_requests(recommender, rng, count, condition)
    asked["after events"] = [({recommender.query: key}, {}) for key in recommender.queries.index.keys.to_list()[:count]]
    asked["after events"] += [({recommender.query: f"new {number}"}, {}) for number in range(min(50, count))]
    found = 0
    for kind, requests in asked.items():
        if kind == "after events":
            events = events_of(recommender, rng, count)
            store.append_events(events)
            recommender = recommender.with_events(table_of(events, recommender))
        tables = [recommender.recommend(query, **rules) for query, rules in requests]
        right = [list(table.select(recommender.candidate, "score").iter_rows()) for table in tables]
        many = recommender.recommend_many([Request(query, **rules) for query, rules in requests])
        alone, together = asyncio.run(over_http(service, requests, recommender.query))
        assert lists_of(many, recommender) == [one for one in right if one], kind
        assert alone == right, kind
        assert together == right, kind
        found += sum(map(len, right))
    asyncio.run(service.drain())
    assert found > 6 * count


def table_of(events, recommender):
    log = recommender.history.events
    columns = {log.query: [event.query for event in events], log.candidate: [event.candidate for event in events]}
    times = HistoryClock(log).column([event.time for event in events])
    return pl.DataFrame(columns).with_columns(times)


@pytest.mark.parametrize("kind", ["reranker", "two towers"])
def test_every_way_to_ask_gives_the_same_bits(tmp_path, kind):
    check(serve(kind), tmp_path, 60, "year >")


@pytest.mark.slow
def test_every_way_to_ask_the_quickstart_gives_the_same_bits(tmp_path):
    if not QUICKSTART.exists():
        pytest.skip("needs the bundle of `make quickstart`")
    check(rr.Recommender.load(QUICKSTART), tmp_path, 1_000, "year >")
