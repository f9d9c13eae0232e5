"""`retrank doctor` tells which implementations are in use, and why."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.command_line import retrank

import retrank as rr
from retrank.cli.doctor import examine
from retrank.core import native


def test_it_tells_what_a_bug_report_needs():
    found = json.loads(retrank("doctor", "--json").stdout)
    assert found["versions"]["retrank"] == rr.__version__
    assert found["versions"].keys() >= {"python", "torch", "numpy", "polars", "platform"}
    assert found["threads"]["torch"] >= 1
    assert "OMP_NUM_THREADS" in found["environment"]
    assert found == json.loads(json.dumps(examine()))


def test_tables_say_the_same():
    shown = retrank("doctor").stdout
    for title, facts in examine().items():
        assert title in shown
        assert all(name in shown for name in facts)


def test_extras_that_are_missing_come_with_the_line_that_installs_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "faiss" else True)
    extras = examine()["extras"]
    assert extras["ann"] == 'missing: pip install "retrank[ann]"'
    assert extras["plot"] == "installed"


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
def test_kernels_in_use():
    found = examine()
    assert set(found["operations"]) >= {"dense", "softmax", "scores", "optimizer_step"}
    assert all(each.startswith("C++ kernel") for each in found["operations"].values())
    assert found["kernels"]["in use"] is True
    assert Path(found["kernels"]["file"]).exists()
    assert "-O3" in found["kernels"]["flags"]
    assert "registers of" in found["kernels"]["processor"]


def doctor(folder, **environment):
    """Run it in a process and a cache of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("RETRANK_NATIVE", "CXX")}
    paths = {"XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(Path(rr.__file__).parents[1])}
    command = [sys.executable, "-m", "retrank", "doctor", "--json"]
    environment = {**inherited, **paths, **environment}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_kernels_that_were_switched_off(tmp_path):
    found = doctor(tmp_path, RETRANK_NATIVE="0")
    assert set(found["operations"].values()) == {"plain torch: switched off by RETRANK_NATIVE=0"}


def test_a_failed_build_is_explained_and_tried_again(tmp_path):
    compiler, calls = tmp_path / "c++", tmp_path / "calls"
    compiler.write_text(f"#!/bin/sh\n[ $1 = --version ] && exit\necho >> {calls}\necho no such register >&2; exit 1\n")
    compiler.chmod(stat.S_IRWXU)
    for attempt in (1, 2):
        found = doctor(tmp_path, CXX=str(compiler))
        assert found["kernels"]["in use"] is False
        assert "no such register" in found["kernels"]["reason"]
        assert len(calls.read_text().splitlines()) == attempt * 4  # variants of the options
