"""The deep and cross example prints the error of each model, and what the cross has learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import retrank as rr
from tests.test_examples import EXAMPLES, example, table

pytestmark = pytest.mark.usefixtures("fake_movielens_data")


@pytest.fixture
def dcn(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return example("dcn")


def few_rows():
    return rr.datasets.movielens_100k().interactions[:1500]


def test_tables(dcn, capsys, monkeypatch, tmp_path):
    whole = rr.datasets.movielens_100k()
    small = replace(whole, interactions=whole.interactions[:24_000])
    monkeypatch.setattr(rr.datasets, "movielens_100k", lambda: small)
    dcn.main(seeds=1, epochs=1, models=("DCN", "DNN"), file=tmp_path / "norms.png")
    errors, norms = capsys.readouterr().out.split("\n\n")
    head, *rows = table(errors)
    assert head == ["model", "test RMSE, mean ± std", "each seed"]
    assert [row[0].split(",")[0] for row in rows] == [
        "mean rating", "mean", "TensorFlow Recommenders", "TensorFlow Recommenders", "TensorFlow Recommenders", "DCN",
        "DNN",
    ]  # fmt: skip
    assert all(0.4 < float(row[1].split(" ± ")[0]) < 5 for row in rows)
    head, *rows = table(norms.strip())
    assert head[1:] == [row[0] for row in rows] == sorted(dcn.TUTORIAL)
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
    assert (tmp_path / "norms.png").read_bytes().startswith(b"\x89PNG")


def test_every_model_learns_from_a_few_rows(dcn):
    rows = few_rows()
    for name in dcn.MODELS:
        model, error = dcn.run(name, rows, rows, seed=0, epochs=4 if "recommended" in name else 30)
        assert error < rows["rating"].std()
        crosses = [module for module in model.modules() if isinstance(module, rr.layers.Cross)]
        assert len(crosses) == {"DNN": 0, "DCN": 1, "DCN, rank 20": 1}.get(name, 2)
        assert (model.linear is not None) == ("biases" in name)
        assert torch.cat([part.flatten() for part in model.embedding_parameters]).isfinite().all()


@pytest.mark.parametrize("name", ["DCN", "DCN, rank 20"])
def test_block_norms_belong_to_their_features(dcn, name):
    rows = few_rows()
    model = dcn.MODELS[name](dcn.feature_space(rows), 3.5)
    cross = next(module for module in model.modules() if isinstance(module, rr.layers.Cross))
    names = sorted(dcn.TUTORIAL)
    one, other = names.index("movie_id"), names.index("age")
    with torch.no_grad():
        cross.kernel.zero_()
        if cross.down is None:
            cross.kernel[32 * one + 3, 32 * other + 5] = -2.0
        else:
            cross.kernel[32 * one + 3, 0] = -2.0
            cross.down.zero_()
            cross.down[0, 32 * other + 5] = 1.0
    expected = np.zeros((6, 6))
    expected[one, other] = 2.0
    shown, norms = dcn.block_norms(model)
    assert shown == names
    np.testing.assert_allclose(norms, expected)
