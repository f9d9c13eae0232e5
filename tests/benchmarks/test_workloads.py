import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmarks.environments import PINS, ROOT, VARIABLES
from benchmarks.workloads import NAMES

from benchmarks import data, limits

WORKLOADS = [importlib.import_module(f"benchmarks.workloads.{name}").WORKLOAD for name in NAMES]
CASES = [pytest.param(w, case, id=f"{w.name}-{case.name}") for w in WORKLOADS for case in w.cases]


def test_every_file_is_listed():
    files = {file.stem for file in (ROOT / "benchmarks" / "workloads").glob("*.py")}
    assert files == {*NAMES, "__init__", "ours"}
    assert [workload.name for workload in WORKLOADS] == list(NAMES)


def _bounds(goal):
    return (goal.rate, goal.seconds_each, goal.processor_seconds_each, goal.memory_share, goal.memory_bytes)


@pytest.mark.parametrize(("workload", "case"), CASES)
def test_goals_name_contenders(workload, case):
    roles = {contender.name: contender.role for contender in case.contenders}
    assert len(roles) == len(case.contenders)
    for goal in case.goals:
        assert roles[goal.contender] == "ours"
        assert goal.against is None or goal.against in roles
        assert sum(bound is not None for bound in _bounds(goal)) == 1


@pytest.mark.parametrize(("workload", "case"), CASES)
def test_what_grows_has_sizes(workload, case):
    sizes = [contender.size for contender in case.contenders]
    assert sorted(sizes) == sizes if case.grows else sizes == [None] * len(sizes)
    assert len(sizes) == 3 or not case.grows


def test_peers_have_pinned_environments():
    used = {contender.environment for w in WORKLOADS for case in w.cases for contender in case.contenders}
    assert used - {"retrank"} == VARIABLES.keys()
    for name in VARIABLES:
        lines = (PINS / f"{name}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)


def test_a_peer_without_our_libraries_can_read_every_workload():
    modules = ", ".join(f"benchmarks.workloads.{name}" for name in NAMES)
    check = f"import sys, benchmarks.worker, {modules}; print({{'torch', 'polars', 'retrank'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_made_data_is_the_same_every_time():
    for make in (
        lambda: data.corpus(50, 20),
        lambda: data.clicks(100, 3, 40),
        lambda: tuple(data.ratings(100).values()),
    ):
        for one, other in zip(make(), make(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_made_data_stays_within_its_tables():
    numbers, ids, labels = data.clicks(5000, 3, 40)
    assert numbers.shape == (5000, 13)
    assert ids.min() >= 0
    assert ids.max() < 40
    assert set(labels) == {0.0, 1.0}
    ratings = data.ratings(5000, users=7, movies=5)
    assert set(ratings["user_id"]) == set(range(1, 8))
    assert set(ratings["movie_id"]) <= set(range(1, 6))


def test_blocked_scores_cover_every_pair_once():
    queries, candidates = torch.randn(5, 3), torch.randn(7, 3)
    seen = []
    limits.blocked_scores(queries, candidates, (2, 3), lambda scores: seen.append(scores.sum().item()))
    assert len(seen) == 3 * 3
    assert sum(seen) == pytest.approx((queries @ candidates.T).sum().item(), abs=1e-4)


def test_the_best_way_is_kept():
    torch.set_num_threads(1)
    calls = []
    ways = {"slow": lambda: [calls.append("slow"), torch.randn(400, 400) @ torch.randn(400, 400)], "fast": lambda: None}
    job = limits.best_of(ways, work=7)
    assert (job.note, job.work) == ("fast", 7)


class Once(Exception):
    """Ends a job after its first repeat."""


def run_once(job):
    def tick():
        raise Once

    with pytest.raises(Once):
        job.loop(tick)


def test_copies_move_the_bytes_they_are_paid_for(monkeypatch):
    moved = []
    monkeypatch.setattr(torch.Tensor, "copy_", lambda _, source: moved.append(8 * source.numel()))
    run_once(limits.copies(3e9, work=1))
    assert len(moved) == 12  # arrays of 128 MiB, read and written
    assert sum(moved) == 3e9
