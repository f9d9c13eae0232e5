"""The configurable ranking example trains every interaction and prints its table."""

import numpy as np
import polars as pl
import pytest

import retrank as rr
from tests.test_examples import example, table

pytestmark = pytest.mark.usefixtures("fake_movielens_data")


def test_table(capsys):
    example("configurable_ranking").main(seeds=1, epochs=1, names=("DLRM",))
    head, *rows = table(capsys.readouterr().out)
    assert head == ["model", "AUC, mean ± std", "log loss, mean ± std", "AUC of each seed"]
    assert [row[0] for row in rows] == ["rate of likes", "the movie's", "the movie's and the user's", "DLRM"]
    aucs = [float(row[1].split(" ± ")[0]) for row in rows]
    assert aucs[0] == 0.5
    assert min(aucs[1:]) > 0.55
    assert rows[-1][3] == f"{aucs[-1]:.4f}"


def test_every_model_learns_from_a_few_rows():
    module = example("configurable_ranking")
    rows = module.liked(rr.datasets.movielens_100k().interactions[:1500])
    for name in module.MODELS:
        results = module.run(name, rows, rows, seed=0, epochs=2)
        assert results["auc"] > 0.6, name
        assert np.isfinite(results["log_loss"])


def test_counting_by_hand():
    rows = pl.DataFrame({"user_id": ["a", "a", "b"], "movie_id": ["x", "y", "x"], "like": [1.0, 0.0, 1.0]})
    test = pl.DataFrame({"user_id": ["a", "c"], "movie_id": ["x", "z"], "like": [1.0, 0.0]})
    results = example("configurable_ranking").by_counting(rows, test)
    mean = 2 / 3
    movie = (2 + 5 * mean) / 7
    user = (1 + 5 * mean) / 7
    odds = movie / (1 - movie) * user / (1 - user) * (1 - mean) / mean
    for name, rate in {
        "rate of likes": mean,
        "the movie's": movie,
        "the movie's and the user's": odds / (1 + odds),
    }.items():
        expected = -(np.log(rate) + np.log(1 - mean)) / 2
        assert results[name]["log_loss"] == pytest.approx(expected, rel=1e-5)
    assert results["rate of likes"]["auc"] == 0.5
    assert results["the movie's"]["auc"] == 1.0
