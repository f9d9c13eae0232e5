"""The service over HTTP, in this process: the same answers as in Python, events at once, and nothing but 4xx."""

import asyncio
import json

import polars as pl
import pytest
from tests.recommender.song_world import KNOWN, serve

import retrank as rr
from retrank.serving.keys import digest_of
from retrank.serving.settings import Limits
from retrank.serving.stores import Event, open_store

ROUTES = ["/recommend", "/recommend/batch", "/session/recommend", "/rank", "/similar", "/events"]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def pairs(answer):
    return [(item["key"], item["score"]) for item in answer["items"]]


def expected(recommender, query, k=10, **rules):
    table = recommender.recommend(query, k, **rules)
    return list(zip(table["song"].to_list(), table["score"].to_list(), strict=True))


def test_answers_over_http_are_those_of_python_alone_and_together(make_client, recommender):
    client = make_client()
    bodies = [
        {"query": "u1"}, {"query": {"user": "u2", "age": 44.0}, "k": 3}, {"query": "stranger", "k": 5},
        {"query": "u3", "where": "year < 1990"}, {"query": "u4", "deny": ["s1", "s2"], "exclude_seen": False},
        {"query": "u5", "allow": ["s1", "s2", "s3"]}, {"query": {"user": "new", "age": 20, "recent": ["s4", "s9"]}},
    ]  # fmt: skip

    async def main():
        alone = [(await client.post("/recommend", body)).json() for body in bodies]
        together = [one.json() for one in await asyncio.gather(*(client.post("/recommend", b) for b in 4 * bodies))]
        batch = (await client.post("/recommend/batch", {"requests": bodies})).json()["answers"]
        return alone, together, batch

    alone, together, batch = run(main())
    for place, body in enumerate(bodies):
        rules = {name: value for name, value in body.items() if name != "query"}
        right = expected(recommender, body["query"], **rules)
        assert right
        assert pairs(alone[place]) == pairs(batch[place]) == right
        assert all(pairs(together[place + turn * len(bodies)]) == right for turn in range(4))
    ids = [answer["list_id"] for answer in alone + together + batch]
    assert len(set(ids)) == len(ids)
    assert alone[0]["query"] == "u1"
    assert [answer["stage"] for answer in alone[1:3]] == ["ranking", "popularity"]


def test_an_event_changes_the_next_answer_also_of_another_worker(make_client, recommender, tmp_path):
    one, other = (make_client(store=open_store(tmp_path / "shared.sqlite")) for _ in range(2))

    async def main():
        first = (await one.post("/recommend", {"query": "u1", "k": 3})).json()
        best = first["items"][0]["key"]
        liked = {"query": "u1", "candidate": best, "type": "like", "id": "e1", "list_id": first["list_id"]}
        twice = [(await one.post("/events", {"events": [liked]})).json() for _ in range(2)]
        assert twice == [{"accepted": 1, "duplicates": 0}, {"accepted": 0, "duplicates": 1}]
        return best, [pairs((await client.post("/recommend", {"query": "u1"})).json()) for client in (one, other)]

    best, (here, there) = run(main())
    events = recommender.history.events.table().head(1).select("user", "song", "time")
    latest = recommender.history.events.table()["time"].max()
    after = recommender.with_events(events.with_columns(user=pl.lit("u1"), song=pl.lit(best), time=pl.lit(latest)))
    assert here == there == expected(after, "u1")
    assert best not in dict(here)


def test_what_is_hidden_is_gone_until_it_is_shown_again(make_client):
    client = make_client()

    async def main():
        before = pairs((await client.post("/recommend", {"query": "stranger"})).json())
        event = {"query": "stranger", "candidate": before[0][0]}
        await client.post("/events", {"events": [{**event, "type": "hide"}]})
        hidden = pairs((await client.post("/recommend", {"query": "stranger"})).json())
        await client.post("/events", {"events": [{**event, "type": "unhide"}]})
        return before, hidden, pairs((await client.post("/recommend", {"query": "stranger"})).json())

    before, hidden, after = run(main())
    assert before[0][0] not in dict(hidden)
    assert hidden[:9] == before[1:]
    assert after == before


def test_events_are_there_after_a_restart_and_impressions_are_kept(make_client, tmp_path):
    path = tmp_path / "kept.sqlite"

    async def main():
        client = make_client(store=open_store(path))
        shown = (await client.post("/recommend", {"query": "u1", "k": 2})).json()
        await client.post(
            "/events", {"events": [{"query": "u1", "candidate": shown["items"][0]["key"], "type": "hide"}]}
        )
        await client.service.drain()
        again = make_client(store=open_store(path))
        answer = (await again.post("/recommend", {"query": "u1", "k": 2})).json()
        ((_, kept),) = again.service.store.impressions()
        return shown, answer, kept

    shown, answer, kept = run(main())
    assert shown["items"][0]["key"] not in dict(pairs(answer))
    assert (kept.list_id, kept.query, list(kept.keys)) == (shown["list_id"], "u1", [key for key, _ in pairs(shown)])
    assert list(kept.scores) == [score for _, score in pairs(shown)]


def test_ranking_orders_what_is_given(make_client, recommender):
    client = make_client()
    keys = ["s3", "s9", "nothing", "s1"]

    async def main():
        return (await client.post("/rank", {"query": "u1", "candidates": keys, "details": True})).json()

    answer = run(main())
    assert pairs(answer) == expected(recommender, "u1", 4, exclude_seen=False, allow=keys[:2] + keys[3:])
    assert answer["unknown"] == ["nothing"]
    assert answer["items"][0]["details"]["artist"].startswith("a")


def test_similar_candidates(make_client, recommender):
    client = make_client()
    answer = run(client.post("/similar", {"candidate": "s3", "k": 4, "where": "year > 1970"})).json()
    table = recommender.similar("s3", 4, where="year > 1970")
    assert pairs(answer) == list(zip(table["song"].to_list(), table["score"].to_list(), strict=True))


def test_sessions_and_rules_are_those_of_python(make_client, recommender):
    client = make_client()
    caps = {"caps": {"artist": 1}, "diversity": 0.3, "boosts": [{"where": "year < 1980", "by": 1.5}]}
    rerank = rr.recommender.Rerank(
        caps={"artist": 1}, diversity=0.3, boosts=[rr.recommender.Boost(where="year < 1980", by=1.5)]
    )

    async def main():
        bodies = [
            ("/session/recommend", {"history": ["s1", "s5"], "k": 5}),
            ("/session/recommend", {"history": ["s1"], "features": {"age": 20.0}, "where": "year > 1970"}),
            ("/recommend", {"query": "u1", "rerank": caps}),
        ]
        return [(await client.post(*body)).json() for body in bodies]

    session, described, ruled = run(main())
    assert session["query"] is None
    assert pairs(session) == expected(recommender, {}, 5, history=["s1", "s5"])
    assert pairs(described) == expected(recommender, {"age": 20.0}, history=["s1"], where="year > 1970")
    assert pairs(ruled) == expected(recommender, "u1", rerank=rerank) != expected(recommender, "u1")


def test_an_explanation_is_of_the_list_that_comes_with_it(make_client, recommender):
    client = make_client()
    exploration = {"position": 2, "probability": 1.0}
    body = {"query": "u1", "k": 4, "explain": True, "deny": ["s1"], "rerank": {"exploration": exploration}}
    answers = [run(client.post("/recommend", body)).json() for _ in range(3)]
    for answer in answers:
        assert [one["key"] for one in answer["explanation"]["candidates"]] == [key for key, _ in pairs(answer)]
    assert len({answer["items"][1]["key"] for answer in answers}) > 1  # chance


BAD = [
    (b"{", 400), (b"\xff", 400), (b"", 400), (b"[]", 422), (b"null", 422), (b'{"query": NaN}', 400),
    (b'{"k": 3}', 422), (b'{"query": "u1", "k": 0}', 422), (b'{"query": "u1", "k": 1.5}', 422),
    (b'{"query": "u1", "k": "3"}', 422), (b'{"query": "u1", "k": 1001}', 422), (b'{"query": "u1", "kk": 3}', 422),
    (b'{"query": 7}', 422), (b'{"query": null}', 422), (b'{"query": {"user": null}}', 422),
    (b'{"query": {"age": 3}}', 422), (b'{"query": {"user": ["u1"]}}', 422), (b'{"query": {"user": "u1", "x": 1}}', 422),
    (b'{"query": {"user": "u1", "age": "old"}}', 422), (b'{"query": {"user": "u1", "recent": [1]}}', 422),
    (b'{"query": "u1", "where": "yeer > 3"}', 422), (b'{"query": "u1", "where": "DROP TABLE songs"}', 422),
    (b'{"query": "u1", "where": 3}', 422), (b'{"query": "u1", "allow": "s1"}', 422),
    (b'{"query": "u1", "deny": [1]}', 422), (b'{"query": "u1", "exclude_seen": 1}', 422),
    (b'{"query": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422), (b'{"query": {"user": "u1", "age": 1e999}}', 422),
    (b'{"query": ' + b"1" * 5_000 + b"}", 422), (b'{"query": "u1", "allow": [' + b'"s1",' * 10_001 + b'"s1"]}', 422),
    (b'{"x":' * 50_000 + b"1" + b"}" * 50_000, 422),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BAD, ids=range(len(BAD)))
def test_bad_requests_are_refused_and_the_next_one_is_answered(make_client, body, status):
    client = make_client()

    async def main():
        headers = {"content-type": "application/json"}
        answer = await client.http.post("/recommend", content=body, headers=headers)
        return answer, await client.post("/recommend", {"query": "u1"})

    answer, after = run(main())
    assert answer.status_code in (status, 400 if status == 422 else status), answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert "Traceback" not in answer.text
    assert len(answer.content) < 3_000
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert after.status_code == 200


def test_one_bad_request_of_a_batch_has_its_error_in_its_place(make_client):
    client = make_client()
    bodies = [{"query": "u1"}, {"query": 7}, {"query": "u2", "k": 5_000}, {"query": "u2"}]
    answers = run(client.post("/recommend/batch", {"requests": bodies})).json()["answers"]
    assert ["error" in answer for answer in answers] == [False, True, True, False]
    assert run_pairs(make_client(), "u2") == pairs(answers[3])


def run_pairs(client, query):
    return pairs(run(client.post("/recommend", {"query": query})).json())


@pytest.mark.parametrize("path", ROUTES)
def test_bodies_must_be_json_of_a_bounded_size(make_client, path):
    client = make_client(limits=Limits(body_bytes=1_000))

    async def main():
        async def chunks():
            for _ in range(20):
                yield b" " * 100

        json_type = {"content-type": "application/json"}
        plain = await client.http.post(path, content=b"{}", headers={"content-type": "text/plain"})
        large = await client.http.post(path, content=b" " * 2_000, headers=json_type)
        chunked = await client.http.post(path, content=chunks(), headers=json_type)
        return [plain.status_code, large.status_code, chunked.status_code, (await client.http.get(path)).status_code]

    assert run(main()) == [415, 413, 413, 405]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "teleport"}, {"query": 7}, {"candidate": 7}, {"time": "soon"}, {"time": -1}, {"id": ""},
        {"id": "x" * 129}, {"value": "much"}, {"what": 1}, {"type": ""},
    ],
    ids=str,
)  # fmt: skip
def test_events_are_kept_all_or_none(make_client, event):
    client = make_client()
    good = {"query": "u1", "candidate": "s1", "type": "view"}
    answer = run(client.post("/events", {"events": [good, {**good, **event}]}))
    assert answer.status_code == 422
    assert client.service.store.position() == 0


def test_an_unexpected_error_leaves_no_trace(make_client, monkeypatch, caplog):
    client = make_client()

    def broken(*_):
        raise RuntimeError("secret")

    async def main():
        monkeypatch.setattr(client.service, "lists", broken)
        failed = await client.post("/recommend", {"query": "u1"}, headers={"x-request-id": "mine"})
        monkeypatch.undo()
        return failed, await client.post("/recommend", {"query": "u1"})

    failed, after = run(main())
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert failed.json()["request_id"] == "mine"
    assert "secret" in caplog.text
    assert after.status_code == 200


def test_keys_are_asked_for_where_there_are_any(make_client):
    client = make_client(key_hashes=frozenset([digest_of("right")]))

    async def main():
        sent = [{}, *({"authorization": text} for text in ("Bearer wrong", "Basic right", "Bearer right"))]
        statuses = [(await client.post("/recommend", {"query": "u1"}, headers=one)).status_code for one in sent]
        return (
            statuses,
            (await client.http.get("/healthz")).status_code,
            (await client.http.get("/metrics")).status_code,
        )

    assert run(main()) == ([401, 401, 401, 200], 200, 401)


def test_other_origins_are_let_in_where_they_are_named(make_client):
    async def main(client):
        headers = {"origin": "https://shop.example", "access-control-request-method": "POST"}
        answer = await client.http.options("/recommend", headers=headers)
        return answer.headers.get("access-control-allow-origin")

    assert run(main(make_client())) is None
    assert run(main(make_client(origins=("https://shop.example",)))) == "https://shop.example"
    assert run(main(make_client(origins=("https://other.example",)))) is None


def test_the_service_tells_of_itself(make_client):
    client = make_client()

    async def main():
        await client.post("/recommend", {"query": "u1"})
        await client.http.get("/nothing/here")
        paths = ("/healthz", "/readyz", "/metrics", "/card", "/openapi.json")
        return [await client.http.get(path) for path in paths]

    health, ready, metrics, card, openapi = run(main())
    assert health.json() == {"status": "ok"}
    assert ready.json()["bundle"] == card.json()["bundle"] == "v1"
    assert 'retrank_requests_total{route="/recommend",status="200"} 1.0' in metrics.text
    assert 'retrank_requests_total{route="other",status="404"} 1.0' in metrics.text
    document = openapi.json()
    assert set(ROUTES) <= set(document["paths"])
    example = document["paths"]["/recommend"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert run(client.post("/recommend", example)).json()["stage"] == "ranking"
    json.dumps(document)


@pytest.mark.parametrize("kind", ["two towers", "baseline"])
def test_other_recommenders_are_served_alike(make_client, kind):
    recommender = serve(kind)
    client = make_client(recommender)
    for query in (KNOWN[0], "stranger"):
        assert run_pairs(client, query) == expected(recommender, query)
    assert rr.__version__


def test_a_service_keeps_up_with_the_store_while_nobody_asks(make_client):
    client = make_client()

    async def main():
        client.service.store.append_events([Event("e1", "u1", "s1", "click", 0)])
        assert client.service.serving.live.position == 0
        await client.service.look()
        assert client.service.serving.live.position == 1
        answer = asyncio.create_task(client.post("/recommend", {"query": "u1"}))
        await asyncio.sleep(0)
        await asyncio.gather(client.service.look(), answer)  # beside a batch, nothing breaks
        assert "retrank_store_position 1.0" in client.service.telemetry.text().decode()

    run(main())
