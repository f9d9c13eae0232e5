"""A two-stage bundle as `retrank quickstart` makes it, through ONNX Runtime and AOTInductor: 1,000 queries each."""

import shutil

import numpy as np
import pytest
import torch
from tests.command_line import retrank
from tests.export.lists import same_list

import retrank as rr

QUERIES = 1000


@pytest.fixture(scope="module")
def recommender(movielens_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRANK_DATA", str(movielens_folder))
        result = retrank("quickstart", "--seeds", "1", "--epochs", "1", "--out", out)
    assert result.returncode == 0, result.stderr
    return rr.Recommender.load(out)


def some_queries(recommender):
    """Yield known queries, new ones with features, and both with histories of different lengths."""
    rng = np.random.default_rng(0)
    known = recommender.queries.stored_table
    movies, (past,) = recommender.catalogue.keys, recommender.queries.list_columns
    for place in range(QUERIES):
        row = known.row(int(rng.integers(len(known))), named=True)
        features = {name: value for name, value in row.items() if name != recommender.query}
        history = rng.choice(movies, rng.integers(0, 60), replace=False).tolist()
        yield [
            {recommender.query: row[recommender.query]},
            {recommender.query: f"new {place}", **features},
            {recommender.query: f"new {place}", **features, past: history},
            {recommender.query: row[recommender.query], past: history[:3]},
        ][place % 4]


def aoti_program(directory, name):
    package = torch._inductor.aoti_load_package(str(directory / "programs" / f"{name}.aoti.pt2"))
    return lambda inputs: package(*(torch.from_numpy(array) for array in inputs.values())).numpy()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of AOTInductor
@pytest.mark.parametrize("layout", ["onnx", "torch"])
def test_lists_are_those_of_the_recommender(recommender, layout, tmp_path):
    if layout == "torch" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler")
    rr.export.write_export(recommender, tmp_path / "export", [layout])
    load = {} if layout == "onnx" else {"load": aoti_program}
    runner = rr.export.Runner(tmp_path / "export", **load)
    for query in some_queries(recommender):
        assert same_list(recommender.recommend(query), runner.recommend(query)), query
