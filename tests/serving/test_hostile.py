"""Whatever is sent, the service answers with 2xx or 4xx, goes on, and its memory stays as it is."""

import asyncio
import gc
import json
import resource

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st

from retrank.serving import create_app

PATHS = ["/recommend", "/recommend/batch", "/session/recommend", "/rank", "/similar", "/events"]
KEYS = ["u1", "s1", "stranger", "", "\x00", "é" * 300, "ud800", 7, -(2**70), True, None, 1.5, [], {}]
NAMES = [
    "query", "k", "exclude_seen", "allow", "deny", "where", "rerank", "details", "explain", "requests", "history",
    "features", "candidates", "candidate", "events", "type", "id", "time", "value", "list_id", "user", "age", "recent",
    "caps", "diversity", "boosts", "exploration", "position", "probability", "seed", "by", "genres", "x",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(KEYS), st.sampled_from([0, 1, 10, 1000, 1001, 10**30, -1, 0.5, 1e308]), st.text(max_size=20),
    st.sampled_from(["year > 1990", "year >", "1=1; DROP x", "artist LIKE '%a%'", "view", "hide", "2026-01-01"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(NAMES), part, max_size=6),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)
GOOD = {
    "/recommend": {"query": "u1"}, "/recommend/batch": {"requests": [{"query": "u1"}]},
    "/session/recommend": {"history": ["s1", "s2"]}, "/rank": {"query": "u1", "candidates": ["s1"]},
    "/similar": {"candidate": "s1"}, "/events": {"events": [{"query": "u1", "candidate": "s1", "type": "view"}]},
}  # fmt: skip


async def throw(client, path, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
    answer = await client.http.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, (path, body, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]
    return answer.status_code


@pytest.fixture
def client(make_client):
    return make_client()


def check(client, bodies):
    async def main():
        for path, body in bodies:
            await throw(client, path, body)
        for path, body in GOOD.items():
            assert await throw(client, path, body) == 200

    asyncio.run(main())


@hypothesis.given(st.lists(st.tuples(st.sampled_from(PATHS), BODIES), min_size=1, max_size=20))
@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_made_up_bodies(client, bodies):
    check(client, bodies)


@hypothesis.given(st.lists(st.tuples(st.sampled_from(PATHS), SCALARS, st.sampled_from(NAMES)), min_size=1, max_size=20))
@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_good_bodies_with_one_thing_wrong(client, changes):
    check(client, [(path, {**GOOD[path], name: value}) for path, value, name in changes])


@hypothesis.given(st.lists(st.tuples(st.sampled_from(PATHS), st.binary(max_size=200)), min_size=1, max_size=20))
@hypothesis.settings(max_examples=20, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_bytes_that_are_no_json(client, bodies):
    check(client, bodies)


@hypothesis.given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "PUT", "PATCH", "DELETE"]), st.sampled_from(["/items/", "/users/"]),
            st.sampled_from(["s1", "u1", "nobody", "%00", "%ff", "..", "a%2Fb", "9" * 400]), VALUES,
        ),
        min_size=1, max_size=10,
    )
)  # fmt: skip
@hypothesis.settings(max_examples=20, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_made_up_documents(make_client, recommender, calls):
    client = make_client(recommender)

    async def main():
        for method, path, key, body in calls:
            content = json.dumps(body).encode("utf-8", "surrogatepass")
            headers = {"content-type": "application/json"}
            answer = await client.http.request(method, path + key, content=content, headers=headers)
            assert answer.status_code < 500, (method, path + key, body, answer.text)
        assert await throw(client, "/recommend", GOOD["/recommend"]) == 200

    asyncio.run(main())
    client.service.store.close()


@pytest.mark.slow
def test_the_routes_are_as_their_description_says(make_client):
    app = create_app(make_client().service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        seen.add(operation.path)

        @hypothesis.given(operation.as_strategy())
        @hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
        def call(case):
            answer = case.call()
            assert answer.status_code < 500, answer.text

        call()
    assert set(PATHS) <= seen


@pytest.mark.slow
def test_memory_stays_as_it_is(make_client):
    client = make_client(logs_requests=False)

    async def rounds(count):
        for number in range(count):
            body = {"query": f"u{number % 20}", "k": number % 30 + 1, "where": f"year > {number}", "details": True}
            await throw(client, "/recommend", body if number % 2 else GOOD["/recommend"])
            await throw(client, "/recommend", {"query": "u1", f"x{number}": 1})

    async def main():
        await rounds(1_000)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await rounds(10_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert asyncio.run(main()) < 64 * 1024  # kilobytes
