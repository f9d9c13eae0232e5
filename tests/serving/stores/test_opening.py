import sys
from pathlib import Path

import pytest

from retrank.core.errors import ConfigError, MissingExtraError
from retrank.serving.stores import open_store


@pytest.mark.parametrize("url", ["mysql://user:secret@host/database", "sqlite://events.db", "sqlite:///", "://"])
def test_an_unknown_url_is_refused_with_what_there_is(url):
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "sqlite:///path" in str(caught.value)
    assert "postgresql://" in str(caught.value)
    assert "redis://" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["events.db", "é 日本 %20?mode=ro#x&y=z;'\".db", ":memory:", "file:x", "-rf", "a" * 240]
)
def test_any_path_is_a_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open_store(tmp_path / name) as first:
        for same in (name, Path(name), f"sqlite:///{name}", f"sqlite:///{tmp_path}/{name}"):
            with open_store(same) as store:
                assert store.identity() == first.identity()


def test_a_path_does_not_follow_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("events.db") as store:
        monkeypatch.chdir("/")
        assert store.position() == 0
        store.check()
    assert (tmp_path / "events.db").exists()


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("postgresql://host/name", "psycopg", "postgres"), ("redis://host", "redis", "redis")],
)
def test_a_driver_that_is_missing_is_named(monkeypatch, url, driver, extra):
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(MissingExtraError, match=rf"retrank\[{extra}\]"):
        open_store(url)
