import numpy as np
import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import ConfigError

F = rr.features
KINDS = {
    "a": F.Categorical(),
    "b": F.Bucketized([0.5]),
    "c": F.Hashed(30),
    "n": F.Normalized(),
    "l": F.CategoricalList(),
}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    letters = rng.choice(list("uvwxyz"), 2000)
    return pl.DataFrame(
        {"a": letters, "b": rng.random(2000), "c": rng.integers(0, 50, 2000), "n": 1.0, "l": [["x"]] * 2000}
    )


def test_a_cross_is_a_function_of_its_ids(table):
    crosses = [F.Cross("a", "b", bins=1000), F.Cross("a", "b", "c", bins=500, name="triple")]
    space = rr.FeatureSpace(KINDS, crosses).fit(table)
    batch = space.transform(table)
    assert space.schema["a_x_b"].num_ids == 1002
    pairs = {}
    for a, b, cross in zip(batch["a"].tolist(), batch["b"].tolist(), batch["a_x_b"].tolist(), strict=True):
        assert pairs.setdefault((a, b), cross) == cross
        assert 2 <= cross < 1002
    assert len(set(pairs.values())) == 12
    assert space.transform(table[5:6])["triple"].item() == batch["triple"][5].item()


def test_unknown_is_crossed_as_one_key(table):
    space = rr.FeatureSpace(KINDS, [F.Cross("a", "b", bins=10**6)]).fit(table)
    rows = pl.DataFrame({"a": ["new", "other", "new", "u"], "b": [0.1, 0.2, 0.9, 0.1]})
    first, second, third, fourth = space.transform(rows, ["a_x_b"])["a_x_b"].tolist()
    assert first == second
    assert len({first, third, fourth}) == 3


def test_only_the_columns_of_its_parts_are_needed(table):
    space = rr.FeatureSpace(KINDS, [F.Cross("b", "c", bins=10)]).fit(table)
    batch = space.transform(table.select("b", "c"), ["b_x_c"])
    assert batch.names == ("b_x_c",)


def test_name_and_order_give_other_buckets(table):
    crosses = [F.Cross("a", "c", bins=10**6), F.Cross("c", "a", bins=10**6), F.Cross("a", "c", bins=10**6, name="z")]
    batch = rr.FeatureSpace(KINDS, crosses).fit(table).transform(table)
    columns = [batch[name] for name in ("a_x_c", "c_x_a", "z")]
    assert (columns[0] == columns[1]).float().mean() < 0.01
    assert (columns[0] == columns[2]).float().mean() < 0.01


@pytest.mark.parametrize(
    ("crosses", "words"),
    [
        (lambda: [F.Cross("a", "n", bins=5)], r"cross 'a_x_n'.*'n', which emits numbers; discretise it first"),
        (lambda: [F.Cross("a", "l", bins=5)], "'l', which emits lists of ids"),
        (lambda: [F.Cross("a", "q", bins=5)], "cross 'a_x_q'.*got 'q'"),
        (lambda: [F.Cross("a", bins=5)], "two or more"),
        (lambda: [F.Cross("a", "a", bins=5)], "two or more different"),
        (lambda: [F.Cross("a", "b", bins=0)], "bins=0"),
        (lambda: [F.Cross("a", "b", bins=5, name="c")], "different names"),
        (lambda: [F.Cross("a", "b", bins=5), F.Cross("a", "b", bins=6)], "different names"),
    ],
)
def test_bad_crosses_are_refused(crosses, words):
    with pytest.raises(ConfigError, match=words):
        rr.FeatureSpace(KINDS, crosses())
