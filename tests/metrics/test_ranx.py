"""Against numbers computed by ranx 0.3.21, which needs numba and is no dependency of the tests."""

import numpy as np
import pytest
import torch
from tests.golden import golden

from retrank.metrics import (
    DCG,
    NDCG,
    HitRate,
    MeanAveragePrecision,
    MeanReciprocalRank,
    PrecisionAtK,
    RecallAtK,
    average_precision,
    hit_rate,
    mrr,
    ndcg,
    precision,
    recall,
)

METRICS = {
    "precision": PrecisionAtK,
    "recall": RecallAtK,
    "hit_rate": HitRate,
    "mrr": MeanReciprocalRank,
    "map": lambda k: MeanAveragePrecision(k, denominator="relevant"),
    "dcg": lambda k: DCG(k, gain="linear"),
    "ndcg": lambda k: NDCG(k, gain="linear"),
    "dcg_burges": DCG,
    "ndcg_burges": NDCG,
}
FUNCTIONS = {
    "precision": precision,
    "recall": recall,
    "hit_rate": hit_rate,
    "mrr": mrr,
    "map": average_precision,
    "ndcg": ndcg,
}


@golden("ranx")
def test_metrics_of_lists(case):
    scores, labels = torch.tensor(case["inputs"]["scores"]), torch.tensor(case["inputs"]["labels"])
    k, expected = case["arguments"]["constructor"]["k"], case["expected"]
    assert expected["mean"].keys() == expected["per_query"].keys() == METRICS.keys()
    for name, build in METRICS.items():
        whole = build(k)
        for row, value in enumerate(expected["per_query"][name]):
            metric = build(k)
            for each in (metric, whole):
                each.update(scores[row : row + 1], labels[row : row + 1])
            assert metric.compute().item() == pytest.approx(value, rel=1e-8), (name, row)
        assert whole.compute().item() == pytest.approx(expected["mean"][name], rel=1e-8), name


@golden("ranx")
def test_functions_of_hits(case):
    scores, relevant = np.array(case["inputs"]["scores"]), np.array(case["inputs"]["labels"]) > 0
    k, expected = case["arguments"]["constructor"]["k"], case["expected"]["per_query"]
    order = np.argsort(-scores, axis=1)[:, :k]
    hits = torch.from_numpy(np.take_along_axis(relevant, order, axis=1))
    num_relevant = torch.from_numpy(relevant.sum(axis=1))
    for name, function in FUNCTIONS.items():
        if name == "ndcg" and case["name"].startswith("graded"):
            continue  # a hit has no grade
        values = function(hits, num_relevant)
        if name == "map":  # ranx divides by all relevant candidates, although k places cannot hold them
            values = values * num_relevant.clamp(max=k) / num_relevant
        np.testing.assert_allclose(values, expected[name], rtol=1e-8, err_msg=name)
