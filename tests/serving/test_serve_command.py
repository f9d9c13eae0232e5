"""The options of `retrank serve`, and the commands beside it."""

import socket
from types import SimpleNamespace

import pytest
from tests.command_line import retrank
from tests.recommender.song_world import serve

from retrank.serving import launching
from retrank.serving.keys import digest_of, read_key_hashes
from retrank.serving.settings import EVENT_TYPES, Settings


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "bundle"
    serve("baseline").save(place)
    return place


@pytest.fixture
def launched(monkeypatch):
    """What `launch` is called with, instead of being called."""
    calls = []

    def launch(bundle, store, settings, listener, **others):
        calls.append(SimpleNamespace(bundle=bundle, store=store, settings=settings, **others))
        calls[-1].address = listener.getsockname()
        calls[-1].no_delay = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        listener.close()

    monkeypatch.setattr(launching, "launch", launch)
    return calls


def test_plain(saved, launched):
    assert retrank("serve", saved, "--port", 0).returncode == 0
    (call,) = launched
    assert call.settings == Settings()
    assert call.store == f"{saved}-events.sqlite"
    assert (call.num_workers, call.watches) == (1, False)
    assert call.address[0] == "127.0.0.1"
    assert call.no_delay


def test_all_options(saved, launched, tmp_path):
    (tmp_path / "keys").write_text(f"{digest_of('one')} shop\n")
    result = retrank(
        "serve", saved, "--port", 0, "--host", "localhost", "--workers", 3, "--store", "sqlite:////tmp/x.db", "--keys",
        tmp_path / "keys", "--origin", "https://a.example", "--origin", "http://b.example:81", "--event-type",
        "share=interaction", "--event-type", "dislike=record", "--no-log-requests", "--no-impressions", "--no-page",
        "--max-k", 7, "--max-body", 999, "--queue", 5, "--deadline", 0.5, "--watch",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (call,) = launched
    settings = call.settings
    assert settings.event_types == {**EVENT_TYPES, "share": "interaction", "dislike": "record"}
    assert settings.key_hashes == {digest_of("one")}
    assert settings.origins == ("https://a.example", "http://b.example:81")
    assert not settings.logs_impressions
    assert not settings.shows_page
    assert not settings.logs_requests
    limits = settings.limits
    assert (limits.k, limits.body_bytes, limits.queue, limits.deadline) == (7, 999, 5, 0.5)
    assert (call.store, call.num_workers, call.watches) == ("sqlite:////tmp/x.db", 3, True)


def test_options_from_the_environment(saved, launched, monkeypatch):
    known = {"PORT": "0", "WORKERS": "2", "ORIGIN": "https://a.example https://b.example", "IMPRESSIONS": "false"}
    for name, value in {**known, "BUNDLE": str(saved), "STORE": "redis://db"}.items():
        monkeypatch.setenv(f"RETRANK_SERVE_{name}", value)
    assert retrank("serve").returncode == 0
    (call,) = launched
    assert call.bundle == saved
    assert call.store == "redis://db"
    assert call.num_workers == 2
    assert call.settings.origins == ("https://a.example", "https://b.example")
    assert not call.settings.logs_impressions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--event-type", "share"], "NAME=EFFECT"),
        (["--event-type", "share=buy"], "interaction, hide, unhide or record"),
        (["--event-type", "share=hide", "--event-type", "share=record"], "one effect"),
        (["--origin", "shop.example"], "an origin"),
        (["--origin", "https://shop.example/"], "an origin"),
        (["--origin", "*", "--origin", "https://shop.example"], "alone"),
        (["--deadline", "0"], "above 0"),
        (["--keys", "/nowhere/keys"], "a file of digests"),
        (["--host", "256.0.0.1"], "an address that is free"),
    ],
)
def test_options_that_make_no_sense(saved, launched, options, said):
    result = retrank("serve", saved, "--port", 0, *options)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not launched


def test_a_port_that_is_taken(saved, launched):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = retrank("serve", saved, "--port", other.getsockname()[1])
    assert result.returncode == 2
    assert "an address that is free" in result.stderr


def test_no_bundle(tmp_path, launched):
    result = retrank("serve", tmp_path / "none", "--port", 0)
    assert result.returncode == 2
    assert "the directory of a bundle" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_keys_are_made_for_the_file_that_is_read(tmp_path):
    first, second = retrank("key").stdout.splitlines()
    key, digest = first.split()[1], second.split()[1]
    (tmp_path / "keys").write_text(f"# keys\n{digest} shop\n")
    assert read_key_hashes(tmp_path / "keys") == {digest_of(key)}
    assert retrank("key").stdout.split()[1] != key


def test_reload_where_nothing_runs(saved):
    result = retrank("reload", saved)
    assert result.returncode == 2
    assert "runs on this machine" in result.stderr


def test_passwords_are_not_said():
    said = launching._without_password("postgresql://me:secret@db/events")
    assert said == "postgresql://me:***@db/events"
    assert launching._without_password("runs/x.sqlite") == "runs/x.sqlite"
