"""Disks without room: what was acknowledged stays, groups stay whole, and with room again the store goes on."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tests.serving.stores.servers import SECONDS, Postgres, Redis, why_missing
from tests.serving.stores.values import event

from retrank.core.errors import StoreUnavailableError
from retrank.serving.stores import open_store

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(request):
    """A folder that is a disk of its own, with a file named `filler` that takes most of it."""
    size, room = request.param
    folder = Path(tempfile.mkdtemp(prefix="retrank-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("a small disk cannot be mounted here")
    try:
        folder.chmod(0o755)
        yield folder, room * 1_000_000
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def fill(folder, room):
    num_bytes = shutil.disk_usage(folder).free - room
    (folder / "filler").write_bytes(bytes(max(0, num_bytes)))


def write_until_full(store):
    """Append groups until the store cannot; return the ids that were acknowledged, and those that were not."""
    acknowledged = []
    for n in range(10_000):
        group = [event(f"{n}-{m}", query="x" * 1_000) for m in range(10)]
        try:
            assert store.append_events(group) == [True] * 10
        except StoreUnavailableError:
            return acknowledged, [e.id for e in group]
        acknowledged += [e.id for e in group]
    raise AssertionError("the disk is larger than thought")


def require_sound(store, acknowledged, refused):
    """Find all that was acknowledged, and the group that was not either whole or not at all; and go on."""
    found = [e.id for e in items_of(store)]
    assert found in (acknowledged, acknowledged + refused)
    assert len(found) >= 10
    assert store.append_events([event(found[0]), event("new")]) == [False, True]
    assert items_of(store)[-1] == event("new")


def items_of(store):
    found, after = [], 0
    while page := store.changes(after, 1_000):
        found += [change.item for change in page]
        after = page[-1].position
    return found


@pytest.mark.parametrize("small_disk", [(4, 2)], indirect=True)
def test_sqlite_without_room(small_disk):
    folder, room = small_disk
    with open_store(folder / "events.db") as store:
        fill(folder, room)
        acknowledged, refused = write_until_full(store)
        assert [e.id for e in items_of(store)] == acknowledged, "readers go on"
        with pytest.raises(StoreUnavailableError):
            store.append_events([event(n, query="x" * 10_000) for n in range(1_000)])
        (folder / "filler").unlink()
        require_sound(store, acknowledged, refused)


@pytest.mark.parametrize(
    ("kind", "small_disk"), [(Redis, (8, 2)), (Postgres, (96, 3))], indirect=["small_disk"], ids=["redis", "postgres"]
)
def test_a_server_without_room(kind, small_disk):
    if reason := why_missing(kind):
        pytest.skip(reason)
    folder, room = small_disk
    server = kind(folder)
    try:
        server.start()
        with open_store(server.url) as store:
            store.append_events([])
            fill(folder, room)
            acknowledged, refused = write_until_full(store)
            (folder / "filler").unlink()
            deadline = time.monotonic() + SECONDS
            while not server.is_ready():  # one may recover by itself, or have ended, as Redis does
                if server.process.poll() is not None:
                    server.start()
                assert time.monotonic() < deadline
            require_sound(store, acknowledged, refused)
    finally:
        server.end()
