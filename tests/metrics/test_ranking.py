import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from tests.golden import cases, golden
from torchmetrics.functional import retrieval as torchmetrics

from retrank.core.errors import DataError, ShapeError
from retrank.metrics import average_precision, hit_rate, mrr, ndcg, precision, recall

FUNCTIONS = {
    "hit_rate": hit_rate,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
    "ndcg": ndcg,
    "average_precision": average_precision,
}
MERLIN = {
    "recallat": recall,
    "precisionat": precision,
    "ndcgat": ndcg,
    "avgprecisionat": average_precision,
    "mrrat": mrr,
}
KERAS_RS = {"precision": precision, "recall": recall, "mrr": mrr, "map": average_precision}


def slow(name, hits, num_relevant):
    if num_relevant == 0:
        return math.nan
    ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
    best = range(1, min(len(hits), num_relevant) + 1)
    return {
        "hit_rate": float(bool(ranks)),
        "recall": len(ranks) / num_relevant,
        "precision": len(ranks) / len(hits),
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "ndcg": sum(1 / math.log2(1 + rank) for rank in ranks) / sum(1 / math.log2(1 + rank) for rank in best),
        "average_precision": sum((i + 1) / rank for i, rank in enumerate(ranks)) / len(best),
    }[name]


@settings(max_examples=60)
@given(st.integers(0, 6), st.integers(1, 8), st.integers(0, 10**6))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_definitions(name, num_queries, k, seed):
    rng = np.random.default_rng(seed)
    hits = rng.random((num_queries, k)) < rng.random((num_queries, 1))
    num_relevant = hits.sum(1) + rng.integers(0, 4, num_queries)
    values = FUNCTIONS[name](torch.from_numpy(hits), torch.from_numpy(num_relevant))
    assert values.dtype == torch.float64
    assert values.shape == (num_queries,)
    expected = [slow(name, row, relevant) for row, relevant in zip(hits, num_relevant, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 12])
def test_agrees_with_torchmetrics_and_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    scores, relevant = 1 + rng.permutation(12).astype(np.float32), rng.random(12) < 0.4
    relevant[0] = True  # and scores above 0: torchmetrics does not count relevant candidates with others
    order = np.argsort(-scores)
    hits, num_relevant = torch.from_numpy(relevant[order][None, :k]), torch.tensor([relevant.sum()])
    predictions, target = torch.from_numpy(scores), torch.from_numpy(relevant)
    for ours, theirs in [
        (hit_rate, torchmetrics.retrieval_hit_rate),
        (recall, torchmetrics.retrieval_recall),
        (precision, torchmetrics.retrieval_precision),
        (mrr, torchmetrics.retrieval_reciprocal_rank),
        (ndcg, torchmetrics.retrieval_normalized_dcg),
    ]:
        assert ours(hits, num_relevant).item() == pytest.approx(theirs(predictions, target, top_k=k).item(), rel=1e-6)
    assert ndcg(hits, num_relevant).item() == pytest.approx(ndcg_score(relevant[None], scores[None], k=k))
    if k == 12:
        full = torchmetrics.retrieval_average_precision(predictions, target)
        assert average_precision(hits, num_relevant).item() == pytest.approx(full.item(), rel=1e-6)


def lists(labels, scores, k):
    labels, scores = np.array(labels), np.array(scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(labels, order, axis=1)[:, :k] >= 1
    return torch.from_numpy(hits), torch.from_numpy((labels >= 1).sum(1))


@golden("merlin_metrics")
def test_agrees_with_merlin(case):
    k, inputs = case["arguments"]["constructor"]["k"], case["inputs"]
    function = MERLIN[case["name"].split("_")[0]]
    hits, num_relevant = lists(inputs["y_true"], inputs["y_pred"], k)
    expected = torch.tensor(case["expected"]["per_example"], dtype=torch.float64)
    if function is recall:  # Merlin divides by min(k, relevant)
        expected *= num_relevant.clamp(max=k) / num_relevant
    expected[num_relevant == 0] = torch.nan  # Merlin: 0
    np.testing.assert_allclose(function(hits, num_relevant), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in cases("krs_metrics")
        if case["name"].split("_")[0] in KERAS_RS and case["name"].split("_", 1)[1] in ("k_none", "k3", "list_weights")
    ],
    ids=lambda case: case["name"],
)
def test_agrees_with_keras_rs(case):
    [update] = case["inputs"]["updates"]
    k = case["arguments"]["constructor"]["k"] or len(update["y_true"][0])
    function = KERAS_RS[case["name"].split("_")[0]]
    hits, num_relevant = lists(update["y_true"], update["y_pred"], k)
    values = function(hits, num_relevant)
    if function is average_precision:  # Keras-RS divides by all relevant candidates
        values = values * num_relevant.clamp(max=k) / num_relevant
    weight = torch.tensor(update.get("sample_weight", [1.0] * len(hits)), dtype=torch.float64).flatten()
    weight[num_relevant == 0] = weight[num_relevant > 0].mean()  # Keras-RS counts such a list as 0, with this weight
    mean = (values.nan_to_num() * weight).sum() / weight.sum()
    assert mean.item() == pytest.approx(case["expected"]["result"], rel=1e-5)


@golden("keras_sparse_top_k")
def test_hit_rate_agrees_with_keras_sparse_top_k(case):
    k, total, weights = case["arguments"]["constructor"]["k"], 0.0, 0.0
    for update, expected in zip(case["inputs"]["updates"], case["expected"]["result_after_each_update"], strict=True):
        labels = torch.tensor(update["y_true"])
        hits = torch.tensor(update["y_pred"])[:, :k] == labels[:, None]
        weight = torch.tensor(update.get("sample_weight", [1.0] * len(labels)), dtype=torch.float64)
        total += (hit_rate(hits, torch.ones_like(labels)) * weight).sum()
        weights += weight.sum()
        assert (total / weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_bad_input(function):
    hits = torch.tensor([[True, False], [True, True]])
    with pytest.raises(DataError, match=r"hits, row 1: expected at most num_relevant = 1 hits, got 2"):
        function(hits, torch.tensor([1, 1]))
    with pytest.raises(ShapeError, match="bool"):
        function(hits.float(), torch.tensor([1, 2]))
    with pytest.raises(ShapeError, match="num_relevant"):
        function(hits, torch.tensor([[1], [2]]))
    with pytest.raises(ShapeError, match="k at least 1"):
        function(hits[:, :0], torch.tensor([1, 2]))
