"""Looking around: the routes that tell what is known."""

from urllib.parse import quote

import pytest
from starlette.testclient import TestClient
from tests.recommender.song_world import serve
from tests.serving.film_world import FILMS, HOSTILE, USERS, film_service, recommender

from retrank.serving.keys import digest_of
from retrank.serving.typical_features import typical_features


@pytest.fixture
def client(tmp_path):
    _, app = film_service(tmp_path, logs_requests=False)
    with TestClient(app) as client:
        yield client


def test_about_names_keys_columns_events_and_limits(client):
    about = client.get("/about").json()
    assert about["title"] == "Films"
    assert about["query"] == {"column": "user", "type": "string", "count": len(USERS)}
    assert about["candidate"] == {"column": "film", "type": "string", "count": len(FILMS)}
    assert about["title_column"] == "title"
    assert about["columns"] == {"title": "String", "year": "Int64", "genres": "List(String)"}
    assert about["group_columns"] == ["genres"]
    assert about["event_types"]["hide"] == "hide"
    assert about["max_k"] == 1_000
    assert about["logs_impressions"]
    assert not about["has_diversity"]


def test_examples_of_conditions_are_accepted(client):
    conditions = client.get("/about").json()["conditions"]
    assert conditions == ["year >= 1981", "array_contains(genres, 'drama')"]
    for where in conditions:
        answer = client.post("/recommend", json={"query": "ann", "where": where})
        assert answer.status_code == 200
        assert answer.json()["items"]


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ({"prefix": "ann"}, ["ann", "anna"]),
        ({"prefix": "anna"}, ["anna"]),
        ({"prefix": "<img"}, HOSTILE[:1]),
        ({"limit": 3}, USERS[:3]),
        ({}, USERS),
        ({"prefix": "nobody"}, []),
    ],
)
def test_users_are_found_by_how_they_begin(client, asked, keys):
    assert client.get("/users", params=asked).json() == {"keys": keys}


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 101}, {"limit": "many"}, {"prefix": "x" * 201}])
def test_lists_are_bounded(client, asked):
    assert client.get("/users", params=asked).status_code == 422


def test_a_user_who_came_by_an_event_is_found_and_has_a_history(client):
    client.post("/events", json={"events": [{"query": "zoe", "candidate": "f7", "type": "like"}]})
    history = client.get("/users/zoe/history").json()
    assert history["is_known"]
    assert [item["details"]["title"] for item in history["items"]] == ["Film 7"]
    assert client.get("/users", params={"prefix": "z"}).json() == {"keys": ["zoe"]}


def test_history_is_newest_first_and_of_the_asked_length(client):
    client.post("/events", json={"events": [{"query": "ann", "candidate": "f19", "type": "like"}]})
    history = client.get("/users/ann/history", params={"limit": 3}).json()
    assert history["num_events"] == 7
    assert [item["key"] for item in history["items"]] == ["f19", "f5", "f4"]
    assert history["items"][0]["details"] == {"title": "Film 19", "year": 1989, "genres": ["drama", "crime"]}


def test_history_tells_what_is_hidden(client):
    for kind, hidden in (("hide", ["f9"]), ("unhide", [])):
        client.post("/events", json={"events": [{"query": "bob", "candidate": "f9", "type": kind}]})
        assert [item["key"] for item in client.get("/users/bob/history").json()["hidden"]] == hidden


def test_events_with_candidates_that_are_not_there_have_no_details(client):
    client.post("/events", json={"events": [{"query": "bob", "candidate": "gone", "type": "like"}]})
    assert client.get("/users/bob/history").json()["items"][0] == {"key": "gone", "details": None}


def test_the_unknown_have_no_history(client):
    assert client.get("/users/nobody/history").json() == {
        "key": "nobody", "is_known": False, "num_events": 0, "items": [], "hidden": [], "features": {}
    }  # fmt: skip


@pytest.mark.parametrize("user", USERS)
def test_every_key_can_be_in_a_path(client, user):
    history = client.get(f"/users/{quote(user, safe='')}/history").json()
    assert history["key"] == user
    assert history["num_events"] == 6


@pytest.mark.parametrize(
    ("search", "titles"), [("FILM 1", ["Film 1", *(f"Film {n}" for n in range(10, 20))]), ("onerror", HOSTILE[:1])]
)
def test_items_are_found_by_title(client, search, titles):
    items = client.get("/items", params={"search": search, "limit": 100}).json()["items"]
    assert [item["details"]["title"] for item in items] == titles


def test_items_are_described_by_key(client):
    items = client.get("/items", params={"key": [HOSTILE[0], "f3", "gone"]}).json()["items"]
    assert [item["key"] for item in items] == [HOSTILE[0], "f3", "gone"]
    assert [item["details"] and item["details"]["title"] for item in items] == [HOSTILE[0], "Film 3", None]
    assert client.get("/items", params={"key": ["f3"] * 101}).status_code == 422


def test_keys_are_asked_for_where_there_are_keys(tmp_path):
    _, app = film_service(tmp_path, key_hashes=frozenset({digest_of("secret")}))
    with TestClient(app) as client:
        for path in ("/about", "/users", "/users/ann/history", "/items", "/status"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": "Bearer secret"}).status_code == 200


def test_typical_features_are_values_that_queries_have():
    assert typical_features(serve("reranker")) == {"age": {"type": "Float64", "typical": 26.0}}
    assert typical_features(recommender()) == {}
