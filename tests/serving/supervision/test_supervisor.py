"""The supervisor, with workers that do nothing but listen to it."""

import json
import os
import pty
import signal
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.serving.running import running

from retrank.core.errors import ConfigError
from retrank.serving.control import ask_for_reload, control_path
from retrank.serving.supervision import standalone

STUB = Path(__file__).with_name("stub_worker.py")


@contextmanager
def supervised(folder, *, num_workers=2, watches=False, seconds=10.0, terminal=None, control=None, **says):
    (folder / "bundle").mkdir(exist_ok=True)
    publish(folder, "v1")
    listener = socket.create_server(("127.0.0.1", 0))
    plan = {
        "command": [sys.executable, "-S", str(STUB)],
        "worker": {"folder": str(folder), "says": says},
        "environment": {},
        "num_workers": num_workers,
        "listener": listener.fileno(),
        "bundle": str(folder / "bundle"),
        "watches": watches,
        "control": str(control or control_path(folder / "bundle", 1)),
        "seconds": seconds,
        "is_for_people": terminal is not None,
        "start": {"url": "http://here/"},
    }
    with listener, (folder / "plan").open("w+") as file:
        json.dump(plan, file)
        file.flush()
        command = [sys.executable, "-P", standalone.__file__, str(file.fileno())]
        options = {} if terminal is None else {"stderr": terminal}
        with running(command, pass_fds=(file.fileno(), listener.fileno()), **options) as one:
            yield one


def publish(folder, version):
    draft = folder / "draft"
    draft.write_text(version)
    draft.replace(folder / "bundle" / "manifest.json")


def told(folder, text, count=1):
    """Wait until workers have written so many lines with a text, and return all lines' process ids and texts."""
    until = time.monotonic() + 30
    while True:
        file = folder / "told"
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()] if file.exists() else []
        found = [(int(pid), said) for pid, said in lines]
        if sum(text in said for _, said in found) >= count:
            return found
        assert time.monotonic() < until, (text, found)
        time.sleep(0.01)


def test_workers_run_and_end_with_it(tmp_path):
    with supervised(tmp_path) as one:
        first = one.heard("serving")
        assert first["version"] == "v1"
        assert first["pid"] == one.process.pid
        found = told(tmp_path, "ready", 2)
        metrics = Path(found[0][1].split()[-1])
        assert metrics.stat().st_mode & 0o777 == 0o700
        one.signal(signal.SIGTERM)
        assert one.ended() == 0
    assert not metrics.exists()
    assert not list(tmp_path.glob("*.sock"))
    for pid, _ in found:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_it_never_imports_torch(tmp_path):
    with supervised(tmp_path) as one:
        one.heard("serving")
        maps = Path(f"/proc/{one.process.pid}/maps")
        if not maps.exists():
            pytest.skip("no /proc")
        assert not [line for line in maps.read_text().splitlines() if "torch" in line or "polars" in line]
        resident = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 40e6


def test_a_bundle_that_no_worker_can_start_with(tmp_path):
    with supervised(tmp_path, fails="the bundle is damaged") as one:
        assert one.ended() == 2
        assert "the bundle is damaged" in one.heard("error: ")["message"]


def test_a_worker_that_dies_at_its_start(tmp_path):
    with supervised(tmp_path, dies=7) as one:
        assert one.ended() == 1
        assert "ended at its start, with code 7" in one.heard("error: ")["message"]


def test_a_worker_that_was_killed_is_replaced(tmp_path):
    with supervised(tmp_path) as one:
        found = told(tmp_path, "ready", 2)
        metrics = Path(found[0][1].split()[-1])
        for name in ("gauge_livesum", "counter"):
            (metrics / f"{name}_{found[0][0]}.db").write_text("")
        os.kill(found[0][0], signal.SIGKILL)
        assert one.heard("is replaced")["code"] == -signal.SIGKILL
        told(tmp_path, "ready", 3)
        assert [file.name for file in metrics.glob(f"*_{found[0][0]}.db")] == [f"counter_{found[0][0]}.db"]
        os.kill(found[1][0], signal.SIGKILL)
        assert one.heard("is replaced")["in_seconds"] == 0.5  # the second within a short time
        told(tmp_path, "ready", 4)


def test_ctrl_c(tmp_path):
    with supervised(tmp_path) as one:
        told(tmp_path, "ready", 2)
        one.signal(signal.SIGINT)
        assert one.ended() == 130


def test_ctrl_c_twice_and_workers_that_do_not_end(tmp_path):
    with supervised(tmp_path, is_stubborn=True) as one:
        told(tmp_path, "ready", 2)
        one.signal(signal.SIGINT)
        one.heard("stopping")
        assert one.process.poll() is None
        one.signal(signal.SIGINT)
        assert one.ended() == 130


def test_workers_that_do_not_end_in_time_are_killed(tmp_path):
    with supervised(tmp_path, is_stubborn=True, seconds=0.3) as one:
        told(tmp_path, "ready", 2)
        one.signal(signal.SIGTERM)
        one.heard("are killed")
        assert one.ended() == 1


def test_workers_hear_that_their_supervisor_has_gone(tmp_path):
    with supervised(tmp_path) as one:
        for _ in range(2):
            one.heard("a worker is ready")
        one.process.kill()
        told(tmp_path, "orphan", 2)


def test_reload_by_signal_goes_through_one_worker_first(tmp_path):
    with supervised(tmp_path, num_workers=3) as one:
        told(tmp_path, "ready", 3)
        publish(tmp_path, "v2")
        one.signal(signal.SIGHUP)
        assert one.heard("reloaded")["bundle"] == "v2"
        steps = [said.split()[0] for _, said in told(tmp_path, "take", 3)][3:]
        assert steps == ["load"] * 3 + ["take"] * 3


def test_reload_by_command(tmp_path):
    with supervised(tmp_path) as one:
        told(tmp_path, "ready", 2)
        one.heard("serving")
        assert ask_for_reload(tmp_path / "bundle") == [{"pid": 1, "result": "unchanged", "bundle": "v1", "workers": 2}]
        publish(tmp_path, "v2")
        assert ask_for_reload(tmp_path / "bundle")[0]["result"] == "loaded"
        publish(tmp_path, "bad")
        refused = ask_for_reload(tmp_path / "bundle")[0]
        assert (refused["result"], refused["error"]) == ("refused", "bad is no good")
        loads = [pid for pid, said in told(tmp_path, "drop bad", 2) if said == "load bad"]
        assert len(loads) == 1
    with pytest.raises(ConfigError, match="none"):
        ask_for_reload(tmp_path / "bundle")


def test_the_socket_of_one_that_was_killed_is_removed(tmp_path):
    with supervised(tmp_path) as one:
        told(tmp_path, "ready", 2)
        one.process.kill()
        one.ended()
        assert control_path(tmp_path / "bundle", 1).exists()
        with pytest.raises(ConfigError, match="none"):
            ask_for_reload(tmp_path / "bundle")
        assert not control_path(tmp_path / "bundle", 1).exists()


def test_others_may_not_use_the_socket(tmp_path):
    with supervised(tmp_path) as one:
        one.heard("serving")
        assert control_path(tmp_path / "bundle", 1).stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_kills_its_worker_goes_no_further(tmp_path):
    with supervised(tmp_path) as one:
        pids = {pid for pid, _ in told(tmp_path, "ready", 2)}
        publish(tmp_path, "deadly")
        result = ask_for_reload(tmp_path / "bundle")[0]
        assert result["result"] == "refused"
        assert "died" in result["error"]
        one.heard("is replaced")
        assert sum(said == "load deadly" for pid, said in told(tmp_path, "load deadly")) == 1
        publish(tmp_path, "v2")
        one.signal(signal.SIGHUP)
        assert one.heard("reloaded")["bundle"] == "v2"
        assert len(pids) == 2


def test_watching(tmp_path):
    with supervised(tmp_path, watches=True) as one:
        told(tmp_path, "ready", 2)
        publish(tmp_path, "v2")
        assert one.heard("reloaded")["bundle"] == "v2"
        publish(tmp_path, "bad")
        one.heard("is refused")
        publish(tmp_path, "v3")
        assert one.heard("reloaded")["bundle"] == "v3"


def test_a_worker_that_starts_with_a_newer_bundle_brings_the_others_along(tmp_path):
    with supervised(tmp_path) as one:
        pid = told(tmp_path, "ready", 2)[0][0]
        publish(tmp_path, "v2")
        os.kill(pid, signal.SIGKILL)
        assert one.heard("reloaded")["bundle"] == "v2"


def test_one_reload_after_another(tmp_path):
    with supervised(tmp_path, slowness=0.1) as one:
        told(tmp_path, "ready", 2)
        publish(tmp_path, "v2")
        one.signal(signal.SIGHUP)
        told(tmp_path, "load v2")
        one.signal(signal.SIGHUP)  # while the first is going on
        assert one.heard("reloaded")["result"] == "loaded"
        assert one.heard("reloaded")["result"] == "unchanged"


def test_a_terminal_gets_text_and_its_end_is_that_of_the_service(tmp_path):
    ours, theirs = pty.openpty()
    with supervised(tmp_path, terminal=theirs) as one:
        os.close(theirs)
        shown = b""
        while b"pid" not in shown:
            shown += os.read(ours, 4096)
        text = shown.decode().replace("\r\n", "\n")
        assert "retrank serves\n  url      http://here/\n  version  v1\n" in text
        assert "{" not in text
        os.close(ours)
        one.signal(signal.SIGHUP)  # as the system does when a terminal is closed
        assert one.ended() == 0


def test_without_a_place_for_the_socket_the_signal_is_left(tmp_path):
    with supervised(tmp_path, control=tmp_path / "missing" / "x.sock") as one:
        assert one.heard("cannot reach this service")["level"] == "warning"
        told(tmp_path, "ready", 2)
        publish(tmp_path, "v2")
        one.signal(signal.SIGHUP)
        assert one.heard("reloaded")["bundle"] == "v2"
