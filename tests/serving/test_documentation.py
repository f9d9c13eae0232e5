"""The commands of docs/serving.md, typed as they are printed, at a service of a bundle like the quickstart's."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

import retrank as rr

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "serving.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands():
    return [line for block in BLOCK.findall(PAGE.read_text()) for line in block.splitlines() if line.startswith("curl")]


def save_bundle(folder):
    movielens = rr.datasets.movielens_100k()
    kinds = rr.features
    names = {
        "user_id": kinds.Categorical(), "age": kinds.Discretized(bins=10), "movie_id": kinds.Categorical(),
        "year": kinds.Normalized(), "genres": kinds.CategoricalList(), "recent": kinds.Recent("movie_id"),
    }  # fmt: skip
    train = movielens.interactions.head(5_000)
    rows = rr.data.with_recent_candidates(train, query="user_id", candidate="movie_id", time="timestamp", length=20)
    space = rr.FeatureSpace(names).fit(rows)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user_id", "age", "recent"]), rr.models.Tower(space, ["movie_id", "year", "genres"]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    rr.Recommender(retrieval=model, space=space, catalogue=movielens.candidates, history=train).save(folder)


@pytest.fixture
def address(fake_movielens_data, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    save_bundle(tmp_path / "bundle")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "retrank", "serve", str(tmp_path / "bundle"), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", *filter(None, [os.environ.get("PYTHONPATH")])])}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def test_the_commands_of_the_page_are_answered(address):
    assert len(commands()) > 10
    for command in commands():
        typed = shlex.split(command.replace("localhost:8000", address))
        done = subprocess.run([*typed, "-s", "-w", "\n%{http_code}"], capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        assert status == "200", (command, body)
        assert body.startswith("{")
