"""The click-through example prints its table; its floor is logistic regression, and its invented rates are true."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

import retrank as rr
from tests.test_examples import example, table

pytestmark = pytest.mark.usefixtures("fake_movielens_data")


@pytest.fixture
def ctr(monkeypatch):
    module = example("ctr")
    few = {
        "4 stars, by time": (lambda: (module.movielens(4)[0][:1500], None), True),
        "pairs": (lambda: module.invented(pairs=True, strength=1.0, seed=0, num_rows=1500), False),
    }
    monkeypatch.setattr(module, "DATA", few)
    return module


def test_table(ctr, capsys):
    ctr.main(seeds=2, epochs=1, names=tuple(ctr.DATA), models=("DeepFM",))
    head, *rows = table(capsys.readouterr().out)
    assert head[1:3] == ["model", "log loss, mean ± std"]
    variants = [f"DeepFM, {variant}" for variant in ("tuned", "no penalty", "one learning rate")]
    systems = ["rate of clicks", "logistic regression", "DeepFM", *variants]
    assert [row[1] for row in rows] == [*systems, *systems, "the true rates"]
    assert [row[3] == "" for row in rows] == [row[1] == "logistic regression" for row in rows]
    losses = {tuple(row[:2]): float(row[2].split(" ± ")[0]) for row in rows}
    assert losses["pairs", "the true rates"] == min(loss for (name, _), loss in losses.items() if name == "pairs")
    regression, deep = rows[1], rows[2]
    assert float(deep[3].split()[0]) == pytest.approx(
        float(deep[2].split()[0]) - float(regression[2].split()[0]), abs=1.1e-4
    )


def test_every_model_learns_from_a_few_rows(ctr):
    for name in ctr.DATA:
        data = ctr.split(name)
        assert len(data.fields) == 10
        for model in ctr.MODELS:
            validation, rates = ctr.learn(data, model, seed=0, epochs=2)
            assert np.isfinite(validation)
            assert ((rates > 0) & (rates < 1)).all()


def test_the_parts_by_time_follow_each_other(ctr, monkeypatch):
    seen = []
    transform = rr.FeatureSpace.transform
    monkeypatch.setattr(rr.FeatureSpace, "transform", lambda self, rows: (seen.append(rows), transform(self, rows))[1])
    ctr.split("4 stars, by time")
    rows = ctr.movielens(4)[0][:1500]
    assert [len(part) for part in seen] == [1050, 150, 300]
    assert all(part.equals(rows[start : start + len(part)]) for part, start in zip(seen, (0, 1050, 1200), strict=True))


@pytest.mark.parametrize("penalty", [0.5, 5.0])
def test_the_floor_agrees_with_scikit_learn(ctr, penalty):
    data = ctr.split("pairs")
    _, rates = ctr.logistic_regression(data, penalty)

    def one_hot(batch):
        sizes = [data.space.schema[field].num_ids for field in data.fields]
        starts = np.cumsum([0, *sizes])
        places = np.stack([batch[field].numpy() + start for field, start in zip(data.fields, starts, strict=False)], 1)
        ends = np.arange(0, places.size + 1, len(sizes))
        return csr_matrix((np.ones(places.size), places.ravel(), ends), shape=(len(batch), starts[-1]))

    oracle = LogisticRegression(C=1 / (2 * penalty), max_iter=1000, tol=1e-8)
    oracle.fit(one_hot(data.train), data.train["label"].numpy())
    np.testing.assert_allclose(rates.numpy(), oracle.predict_proba(one_hot(data.test))[:, 1], atol=2e-3)


def test_invented_clicks_have_the_rates_that_they_come_with(ctr):
    rows, rates = ctr.invented(pairs=True, strength=1.0, seed=3, num_rows=40_000)
    clicked = rows["label"].to_numpy()
    assert rates.mean() == pytest.approx(0.09, abs=1e-3)
    for part in np.array_split(np.argsort(rates), 4):
        assert clicked[part].mean() == pytest.approx(rates[part].mean(), abs=4 * np.sqrt(rates[part].mean() / 10_000))
    again, _ = ctr.invented(pairs=True, strength=1.0, seed=3, num_rows=40_000)
    assert again.equals(rows)
    error = rr.metrics.CalibrationError()
    error.update(torch.from_numpy(rates), rows["label"].to_torch())
    assert error.compute() < 0.01
