"""The page as it is sent: types, caching, headers that let nothing else run, and the files that must be in a wheel."""

import re
import tomllib
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serving.film_world import film_service

import retrank

ROOT = Path(retrank.__file__).parent
FILES = sorted((ROOT / "serving" / "page").iterdir())
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@pytest.fixture
def client(tmp_path):
    _, app = film_service(tmp_path, logs_requests=False, key_hashes=frozenset({"0" * 64}))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_come_with_their_type_without_a_key_and_once(client, file):
    path = "/" if file.name == "index.html" else f"/page/{file.name}"
    sent = client.get(path)
    assert sent.status_code == 200
    assert sent.content == file.read_bytes()
    assert sent.headers["content-type"].split(";")[0] == TYPES[file.suffix]
    assert sent.headers["x-content-type-options"] == "nosniff"
    again = client.get(path, headers={"if-none-match": f'"other", W/{sent.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_only_files_of_this_page_run_in_it(client):
    policy = dict(part.split(" ", 1) for part in client.get("/").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    html = (ROOT / "serving" / "page" / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://", html)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_are_small_and_parse_no_markup(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 350
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_what_a_file_imports_is_there():
    names = {file.name for file in FILES}
    imported = {name for file in FILES for name in re.findall(r'from "\./([^"]+)"', file.read_text())}
    linked = set(re.findall(r'"page/([^"]+)"', (ROOT / "serving" / "page" / "index.html").read_text()))
    assert imported | linked | {"index.html"} == names


@pytest.mark.parametrize("name", ["no.js", "..%2Fapp.py", "%2e%2e%2fapp.py"])
def test_other_files_are_not_sent(client, name):
    assert client.get(f"/page/{name}", headers={"authorization": "Bearer x"}).status_code == 404


def test_a_service_may_do_without(tmp_path):
    _, app = film_service(tmp_path, logs_requests=False, shows_page=False)
    with TestClient(app) as client:
        for path in ("/", "/page/page.js", "/about", "/users", "/users/ann/history", "/items"):
            assert client.get(path).status_code == 404
        assert client.post("/recommend", json={"query": "ann"}).status_code == 200


def test_wheels_hold_the_page():
    patterns = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["retrank"] for path in ROOT.glob(pattern)}
    assert set(FILES) <= packed
