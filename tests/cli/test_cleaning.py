import json
import os
import time

import pytest
from tests.command_line import retrank

from retrank.cli.cleaning import abandoned
from retrank.core.errors import DataError

RUN, OTHER = "0123456789ab-ba9876543210", "aaaaaaaaaaaa-bbbbbbbbbbbb"


def checkpoint(folder, name, hours, size=1000):
    stage = folder / name / "retrieval-0"
    stage.mkdir(parents=True)
    (stage / "manifest.json").write_text("{}")
    (stage / "state.safetensors").write_bytes(b"x" * size)
    then = time.time() - 3600 * hours
    for path in (*stage.iterdir(), stage, stage.parent):
        os.utime(path, (then, then))
    return folder / name


@pytest.fixture
def place(tmp_path):
    checkpoint(tmp_path / "runs" / ".train-checkpoints", RUN, hours=5)
    checkpoint(tmp_path / ".out-checkpoints", OTHER, hours=30, size=2_000_000)
    return tmp_path


def test_abandoned_checkpoints_are_listed_and_deleted(place):
    listed = json.loads(retrank("clean", place, "--json").stdout)
    assert [row["checkpoints"] for row in listed["abandoned"]] == [
        str(place / ".out-checkpoints" / OTHER), str(place / "runs" / ".train-checkpoints" / RUN)
    ]  # fmt: skip
    assert listed["abandoned"][0] | {"checkpoints": ""} == {"checkpoints": "", "MB": 2.0, "hours": 30.0}
    assert not listed["deleted"]
    assert "--delete" in retrank("clean", place).stdout
    assert len(abandoned(place, 1)) == 2
    assert "deleted" in retrank("clean", place, "--delete", "--hours", 24).stdout
    assert [one.path.name for one in abandoned(place, 1)] == [RUN]
    assert not (place / ".out-checkpoints").exists()
    retrank("clean", place, "--delete")
    assert "no checkpoints" in retrank("clean", place).stdout


def test_what_may_be_in_use_or_is_not_ours_stays(place):
    fresh = checkpoint(place / ".now-checkpoints", RUN, hours=0)
    named = checkpoint(place / ".out-checkpoints", "my-own", hours=9)
    mixed = checkpoint(place / ".mixed-checkpoints", RUN, hours=9)
    (mixed / "letter").write_text("precious")
    strange = place / ".strange-checkpoints" / RUN / "photos"
    strange.mkdir(parents=True)
    (place / ".link-checkpoints").mkdir()
    (place / ".link-checkpoints" / OTHER).symlink_to(mixed)
    retrank("clean", place, "--delete")
    for kept in (fresh, named, mixed / "letter", strange, place / ".link-checkpoints" / OTHER):
        assert kept.exists()
    assert not (place / "runs" / ".train-checkpoints").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        abandoned(tmp_path / "nowhere", 1)
    assert retrank("clean", tmp_path / "nowhere").returncode == 2
