"""What a save may leave behind: the old bundle or the new one, whole and loadable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.recommender.beside import make

import retrank as rr

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_readers_beside_writers_get_one_version(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.recommender.beside", str(tmp_path), "60"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_bundle_that_could_not_be_loaded_replaces_nothing(tmp_path):
    good, bad = make(0), make(1)
    good.save(tmp_path / "bundle")
    bad.retrieval.query.embeddings.tables[0].weight.data = torch.zeros(3, 4)  # as a fault of ours might do
    with pytest.raises(rr.errors.StorageError, match=r"bundle/retrieval\.safetensors"):
        bad.save(tmp_path / "bundle")
    assert rr.Recommender.load(tmp_path / "bundle").card.title == "version 0"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_new_save_replaces_the_bundle_and_adds_no_file(tmp_path):
    make(0).save(tmp_path / "bundle")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    make(1).save(tmp_path / "bundle")
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
