"""The example runs from end to end on invented data, and prints the table that the documentation shows."""

import dataclasses

import numpy as np
import polars as pl
import pytest

import retrank as rr
from tests.test_examples import example, table

pytestmark = [
    pytest.mark.usefixtures("fake_movielens_data"),
    pytest.mark.filterwarnings("ignore:.*fewer than 5 rows and no list"),
]


@pytest.fixture
def few():
    """The example, and a few users of the invented data."""
    module, data = example("listwise_ranking"), rr.datasets.movielens_100k()
    rows = data.interactions.filter(pl.col("user_id").cast(int) <= 30)
    return module, data, rows[: len(rows) // 2], rows[len(rows) // 2 :]


def test_the_table_compares_tutorials_and_the_recommended_setting(few, monkeypatch, capsys):
    module, data, train, test = few
    rows = pl.concat([train, test])
    monkeypatch.setattr(rr.datasets, "movielens_100k", lambda: dataclasses.replace(data, interactions=rows))
    monkeypatch.setattr(rr.data, "random_split", lambda rows, **_: (rows[: len(train)], rows[len(train) :]))
    module.main(seeds=2, epochs=1)
    head, *rows = table(capsys.readouterr().out)
    assert head == ["system", "loss", "test NDCG, mean ± std", "each seed"]
    losses = ["MSE", "hinge", "ListMLE"]
    assert [row[1] for row in rows] == ["", "", *losses * 4, "MSE"]
    assert [row[0].split(",")[0] for row in rows[2::3]] == [
        "TensorFlow Recommenders", "its tutorial", "Keras-RS", "its tutorial", "recommended",
    ]  # fmt: skip
    values = [float(row[2].split(" ± ")[0]) for row in rows]
    assert all(0.5 < value < 1 for value in values)
    assert [value for row, value in zip(rows, values, strict=True) if "measured" in row[0]] == [
        0.8993, 0.8982, 0.8985, 0.8754, 0.8960, 0.8965,
    ]  # fmt: skip
    assert [row[3] for row in rows[:-1]] == [""] * (len(rows) - 1)
    seeds = [float(value) for value in rows[-1][3].split(", ")]
    assert values[-1] == pytest.approx(np.mean(seeds), abs=1e-4)


def test_lists_and_their_ndcg_are_those_of_the_protocol(few):
    module, _, train, _ = few
    lists = module.sampled(train, per_query=2)
    random, rows = np.random.RandomState(42), {}
    for user, stars in train.select("user_id", "rating").iter_rows():
        rows.setdefault(user, []).append(stars)
    expected = [
        [own[place] for place in random.choice(range(len(own)), size=5, replace=False)]
        for own in rows.values()
        if len(own) >= 5
        for _ in range(2)
    ]
    assert lists["rating"].to_list() == expected
    scores = np.random.default_rng(0).normal(size=(len(lists), 5))
    gains, discount = 2.0 ** np.array(expected) - 1, 1 / np.log2(np.arange(5) + 2)
    got = (np.take_along_axis(gains, np.argsort(-scores, axis=1), axis=1) * discount).sum(axis=1)
    best = (-np.sort(-gains, axis=1) * discount).sum(axis=1)
    assert module.ndcg(module.torch.tensor(scores), lists) == pytest.approx((got / best).mean())


def test_the_recommended_setting_learns_from_the_rows(few):
    module, data, train, test = few
    lists = module.sampled(test, per_query=1)
    floor = module.without_learning(train, lists)["random order, mean of 20"]
    assert module.learn_recommended(train, lists, data, seed=0, epochs=4) > floor
