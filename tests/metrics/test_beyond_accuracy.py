import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import CatalogueCoverage, GiniIndex, IntraListDiversity, Novelty, PopularityBias

NUM = 7
COUNTS = np.array([9, 4, 4, 1, 0, 0, 2])
EMBEDDINGS = np.random.default_rng(5).normal(size=(NUM, 3))
EMBEDDINGS[3] = 0
BUILD = {
    "coverage": lambda k: CatalogueCoverage(NUM, k=k),
    "gini": lambda k: GiniIndex(NUM, k=k),
    "novelty": lambda k: Novelty(k=k),
    "popularity_bias": lambda k: PopularityBias(k=k),
    "diversity": lambda k: IntraListDiversity(k=k),
}
EXTRA = {
    "coverage": (),
    "gini": (),
    "novelty": (torch.from_numpy(COUNTS),),
    "popularity_bias": (torch.from_numpy(COUNTS),),
    "diversity": (torch.from_numpy(EMBEDDINGS),),
}


def exposure(lists, weight):
    total = [0.0] * NUM
    for row, w in zip(lists, weight, strict=True):
        for candidate in row:
            total[candidate] += w
    return total


def slow_gini(values):
    if sum(values) == 0:
        return math.nan
    return sum(abs(a - b) for a in values for b in values) / (2 * len(values) * sum(values))


def slow_mean(lists, weight, value):
    found = [(value(row), w) for row, w in zip(lists, weight, strict=True)]
    found = [(v, w) for v, w in found if v is not None]
    total = sum(w for _, w in found)
    return sum(v * w for v, w in found) / total if total else math.nan


def distance(a, b):
    norms = np.linalg.norm(EMBEDDINGS[a]) * np.linalg.norm(EMBEDDINGS[b])
    return 1 - (EMBEDDINGS[a] @ EMBEDDINGS[b] / norms if norms else 0.0)


def slow_diversity(row):
    pairs = [distance(row[i], row[j]) for i in range(len(row)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else None


def slow(name, lists, weight):
    if name in ("coverage", "gini"):
        values = exposure(lists, weight)
        if name == "gini":
            return slow_gini(values)
        return sum(v > 0 for v in values) / NUM if sum(values) else math.nan
    value = {
        "novelty": lambda row: np.mean([-math.log2((COUNTS[c] + 1) / (COUNTS.sum() + NUM)) for c in row]),
        "popularity_bias": lambda row: np.mean([COUNTS[c] for c in row]) / COUNTS.mean(),
        "diversity": slow_diversity,
    }[name]
    return slow_mean(lists, weight, lambda row: value(row) if row else None)


LISTS = st.lists(
    st.tuples(st.lists(st.integers(0, NUM - 1), max_size=4, unique=True), st.sampled_from([0.0, 0.5, 1.0, 3.0])),
    max_size=8,
)


def padded(lists, length=4):
    return torch.tensor([row + [-1] * (length - len(row)) for row in lists], dtype=torch.int64).view(-1, length)


@settings(max_examples=50)
@given(LISTS, st.sampled_from([None, 1, 2, 9]), st.data())
@pytest.mark.parametrize("name", BUILD)
def test_any_split_into_batches_and_merges_gives_the_definition(name, rows, k, data):
    lists, weight = [row for row, _ in rows], [w for _, w in rows]
    metric, other = BUILD[name](k), BUILD[name](k)
    cut = data.draw(st.integers(0, len(rows)))
    for part in (slice(None, cut), slice(cut, None)):
        target = data.draw(st.sampled_from([metric, other]))
        target.update(padded(lists[part]), *EXTRA[name], torch.tensor(weight[part]))
    metric.merge(other)
    expected = slow(name, [row[:k] for row in lists], weight)
    assert metric.num_rows == len(rows)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    restored = BUILD[name](k)
    restored.load_state_dict(metric.state_dict())
    assert restored.compute().item() == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    metric.reset()
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("name", BUILD)
def test_no_weight_is_a_weight_of_one(name):
    lists = padded([[0, 1], [2], [3, 4, 5]])
    one, none = BUILD[name](None), BUILD[name](None)
    one.update(lists, *EXTRA[name], torch.ones(3))
    none.update(lists, *EXTRA[name])
    assert one.compute() == none.compute()
    assert BUILD[name](10).name == f"{name}@10"


@pytest.mark.parametrize("name", BUILD)
def test_what_has_no_meaning_is_said_at_compute(name):
    for rows, weight in [([[0, NUM]], [1.0]), ([[0, -2]], [1.0]), ([[0, 1]], [-1.0]), ([[0, 1]], [math.nan])]:
        metric = BUILD[name](None)
        metric.update(torch.tensor(rows), *EXTRA[name], torch.tensor(weight))
        with pytest.raises(DataError, match=f"metric '{name}'.*1 of 1 rows"):
            metric.compute()


@pytest.mark.parametrize("name", BUILD)
def test_bad_shapes(name):
    with pytest.raises(ShapeError, match="int64 candidate rows"):
        BUILD[name](None).update(torch.zeros(2, 3), *EXTRA[name])
    with pytest.raises(ShapeError, match=r"weight of shape \(2,\)"):
        BUILD[name](None).update(torch.zeros(2, 3, dtype=torch.int64), *EXTRA[name], torch.ones(3))
    with pytest.raises(ConfigError, match="k of at least 1"):
        BUILD[name](0)
    if EXTRA[name]:
        with pytest.raises(ShapeError, match="num_candidates"):
            BUILD[name](None).update(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(()))


def test_bad_numbers():
    metric = IntraListDiversity()
    metric.update(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[1.0], [math.nan], [2.0]]))
    with pytest.raises(DataError, match="finite embeddings"):
        metric.compute()
    metric = PopularityBias()
    metric.update(torch.tensor([[0, 1]]), torch.tensor([1, -1]))
    with pytest.raises(DataError, match="counts"):
        metric.compute()
    with pytest.raises(ConfigError, match="smoothing"):
        Novelty(smoothing=-1)
    with pytest.raises(ConfigError, match="at least one candidate"):
        GiniIndex(0)


def test_recommending_all_equally_or_only_one():
    even, one = GiniIndex(4), GiniIndex(4)
    even.update(torch.tensor([[0, 1], [2, 3]]))
    one.update(torch.tensor([[1], [1]]))
    assert (even.compute(), one.compute()) == (0, 0.75)
    bias, embeddings = PopularityBias(), torch.eye(4)
    bias.update(torch.arange(4)[None], torch.tensor([5, 3, 2, 0]))
    assert bias.compute() == 1
    diversity = IntraListDiversity()
    diversity.update(torch.arange(4)[None], embeddings)
    assert diversity.compute() == 1
    novelty = Novelty(smoothing=0)
    novelty.update(torch.tensor([[1]]), torch.tensor([1, 0]))
    assert novelty.compute() == math.inf


def test_metrics_are_rebuilt_from_json():
    for build in BUILD.values():
        metric = build(3)
        again = rr.core.from_config(rr.core.to_config(metric))
        assert (type(again), again.name, again.config) == (type(metric), metric.name, metric.config)
