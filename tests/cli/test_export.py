"""`retrank export`."""

import json

import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    plays = pl.DataFrame({"user": [i % 7 for i in range(60)], "song": [i * 5 % 13 for i in range(60)]})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    songs = pl.DataFrame({"song": list(range(13)), "year": list(range(13))})
    folder = tmp_path_factory.mktemp("export") / "bundle"
    rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays).save(folder)
    return folder


def test_layouts_are_written_side_by_side(bundle, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    found = json.loads(retrank("export", bundle, out, "--layout", "onnx", "--layout", "vectors", "--json").stdout)
    assert found["out"] == str(out)
    assert {"vectors.parquet", "programs/query_tower.onnx", "runner.py", "export.json"} <= set(found["files"])
    recommender, runner = rr.Recommender.load(bundle), rr.export.Runner(out)
    assert [item["key"] for item in runner.recommend(3, k=4)] == recommender.recommend(3, k=4)["song"].to_list()


def test_files_are_listed(bundle, tmp_path):
    result = retrank("export", bundle, tmp_path / "out", "--layout", "vectors")
    assert result.returncode == 0
    assert "vectors.parquet" in result.stdout


def test_mistakes_are_told_in_a_line(bundle, tmp_path):
    result = retrank("export", bundle, tmp_path / "out", "--layout", "onyx")
    assert result.returncode == 2
    assert "onyx" in result.stderr
    (tmp_path / "letter.txt").write_text("precious")
    result = retrank("export", bundle, tmp_path, "--layout", "vectors")
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr
