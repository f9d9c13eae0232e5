import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from tests.golden import golden

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.metrics import (
    DCG,
    NDCG,
    HitRate,
    MeanAveragePrecision,
    MeanReciprocalRank,
    PrecisionAtK,
    RecallAtK,
)

ALL = [PrecisionAtK, RecallAtK, HitRate, MeanReciprocalRank, MeanAveragePrecision, DCG, NDCG]
NAMES = {"precision": PrecisionAtK, "recall": RecallAtK, "mrr": MeanReciprocalRank, "map": MeanAveragePrecision}
NAMES |= {"dcg": DCG, "ndcg": NDCG}


def log_discount(rank):
    return 1 / math.log2(1 + rank)


def slow_list(kind, items, k, ties, options):
    """Value, weight and relevance of one list of (score, label, weight), or None if nothing takes part."""
    items = [item for item in items if item[1] >= 0 and item[2] > 0]
    if not items:
        return None
    if kind in (DCG, NDCG):
        gain = {"exponential": lambda y: 2**y - 1, "linear": lambda y: y}[options.get("gain", "exponential")]
    else:
        gain = lambda y: float(y >= options.get("relevant_from", 1))  # noqa: E731
    key = (lambda item: (-item[0], item[1])) if ties == "pessimistic" else (lambda item: -item[0])
    ranked = sorted(items, key=key)
    relevance, weight = [gain(y) for _, y, _ in ranked], [w for *_, w in ranked]
    if sum(relevance) == 0:
        return 0.0, sum(weight) / len(weight), 0.0
    list_weight = sum(w * r for w, r in zip(weight, relevance, strict=True)) / sum(relevance)
    cut = len(ranked) if k is None else k
    hits = relevance[:cut]
    if kind is PrecisionAtK:
        value = sum(hits) / min(cut, len(ranked))
    elif kind is RecallAtK:
        total = sum(relevance)
        value = sum(hits) / (min(total, cut) if options.get("denominator") == "attainable" else total)
    elif kind is HitRate:
        value = float(any(hits))
    elif kind is MeanReciprocalRank:
        value = next((1 / rank for rank, hit in enumerate(hits, start=1) if hit), 0.0)
    elif kind is MeanAveragePrecision:
        precision = [sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1)]
        top = sum(w * h * p for w, h, p in zip(weight, hits, precision, strict=False))
        best = sorted((w for w, r in zip(weight, relevance, strict=True) if r), reverse=True)
        value = top / sum(best if options.get("denominator") == "relevant" else best[:cut])
    else:
        gains = [w * r for w, r in zip(weight, relevance, strict=True)]
        dcg = sum(g * log_discount(rank) for rank, g in enumerate(gains[:cut], start=1))
        best = sum(g * log_discount(rank) for rank, g in enumerate(sorted(gains, reverse=True)[:cut], start=1))
        value = dcg / best if kind is NDCG else dcg / list_weight
    return value, list_weight, 1.0


def slow(kind, lists, k, ties, without_relevant, options):
    found = [slow_list(kind, items, k, ties, options) for items in lists]
    found = [each for each in found if each is not None]
    if without_relevant == "skip":
        found = [each for each in found if each[2]]
    if without_relevant == "mean_weight":
        weights = [w for _, w, relevant in found if relevant]
        mean = sum(weights) / len(weights) if weights else 1.0
        found = [(v, w if relevant else mean, relevant) for v, w, relevant in found]
    total = sum(w for _, w, _ in found)
    return sum(v * w for v, w, _ in found) / total if total else math.nan


def random_lists(rng, num_lists, length):
    scores = rng.integers(-3, 4, (num_lists, length)) / 2  # many ties
    labels = rng.integers(-1, 4, (num_lists, length)) * (rng.random((num_lists, 1)) < 0.8)
    weight = rng.choice([0.0, 0.5, 1.0, 3.0], (num_lists, length))
    mask = rng.random((num_lists, length)) < 0.8
    return scores, labels, weight, mask


@settings(max_examples=40)
@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([None, 1, 3, 9]),
    st.sampled_from(["stable", "pessimistic"]),
    st.sampled_from(["zero", "skip", "mean_weight"]),
    st.integers(0, 10**6),
)
@pytest.mark.parametrize("kind", ALL)
def test_any_split_into_batches_and_merges_gives_the_definition(
    kind, num_lists, length, k, ties, without_relevant, seed
):
    rng = np.random.default_rng(seed)
    scores, labels, weight, mask = random_lists(rng, num_lists, length)
    options = {}
    if kind in (RecallAtK, MeanAveragePrecision):
        options["denominator"] = str(rng.choice(["relevant", "attainable"]))
    if kind in (DCG, NDCG):
        options["gain"] = str(rng.choice(["exponential", "linear"]))
    else:
        options["relevant_from"] = float(rng.choice([1.0, 2.5]))
    arguments = {"ties": ties, "without_relevant": without_relevant, **options}
    metric, other = kind(k, **arguments), kind(k, **arguments)
    cut = int(rng.integers(0, num_lists + 1))
    parts = [torch.from_numpy(part) for part in (scores, labels, weight, mask)]
    for rows in (slice(None, cut), slice(cut, None)):
        target = metric if rng.random() < 0.5 else other
        target.update(parts[0][rows].float(), parts[1][rows], parts[2][rows], mask=parts[3][rows])
    metric.merge(other)
    lists = [
        [(scores[row, i], labels[row, i], weight[row, i]) for i in range(length) if mask[row, i]]
        for row in range(num_lists)
    ]
    expected = slow(kind, lists, k, ties, without_relevant, options)
    assert metric.num_rows == num_lists
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9, nan_ok=True)
    restored = kind(k, **arguments)
    restored.load_state_dict(metric.state_dict())
    assert restored.compute().item() == pytest.approx(expected, rel=1e-9, nan_ok=True)
    metric.reset()
    assert math.isnan(metric.compute())


@golden("krs_metrics")
def test_golden_keras_rs(case):
    constructor, kind = case["arguments"]["constructor"], NAMES[case["name"].split("_")[0]]
    arguments = {"without_relevant": "mean_weight"}
    if kind is MeanAveragePrecision:
        arguments["denominator"] = "relevant"
    if "gain_fn" in constructor:
        arguments["gain"] = "linear"
    metric = kind(constructor["k"], **arguments)
    for update, expected in zip(case["inputs"]["updates"], case["expected"]["result_after_each_update"], strict=True):
        scores, labels = torch.tensor(update["y_pred"]), torch.tensor(update["y_true"])
        weight = torch.tensor(update["sample_weight"]) if "sample_weight" in update else None
        mask = torch.tensor(update["mask"]) if "mask" in update else None
        metric.update(scores, labels, weight, mask=mask)
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


MERLIN = {
    "recallat": lambda k: RecallAtK(k, denominator="attainable"),
    "precisionat": PrecisionAtK,
    "ndcgat": lambda k: NDCG(k, gain="linear"),
    "avgprecisionat": MeanAveragePrecision,
    "mrrat": MeanReciprocalRank,
}


@golden("merlin_metrics")
def test_golden_merlin(case):
    build, k = MERLIN[case["name"].split("_")[0]], case["arguments"]["constructor"]["k"]
    scores, labels = torch.tensor(case["inputs"]["y_pred"]), torch.tensor(case["inputs"]["y_true"])
    weight = torch.tensor(case["inputs"]["sample_weight"]) if "sample_weight" in case["inputs"] else None
    metric = build(k)
    metric.update(scores, labels, weight)
    assert metric.compute().item() == pytest.approx(case["expected"]["result"], rel=1e-6)
    for row, expected in enumerate(case["expected"]["per_example"]):
        metric = build(k)
        metric.update(scores[row : row + 1], labels[row : row + 1])
        assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


@golden("keras_sparse_top_k")
def test_golden_keras_sparse_top_k(case):
    metric = HitRate(case["arguments"]["constructor"]["k"])
    for update, expected in zip(case["inputs"]["updates"], case["expected"]["result_after_each_update"], strict=True):
        ids = torch.tensor(update["y_pred"])
        weight = torch.tensor(update["sample_weight"]) if "sample_weight" in update else None
        places = torch.arange(ids.shape[1], 0, -1).float().expand(ids.shape)  # ids come best first
        metric.update(places, ids == torch.tensor(update["y_true"])[:, None], weight)
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 4, 12])
def test_agrees_with_torchmetrics_and_scikit_learn(seed, k):
    torchmetrics = pytest.importorskip("torchmetrics.retrieval")
    rng = np.random.default_rng(seed)
    scores, graded = 1 + np.stack([rng.permutation(12) for _ in range(9)]), rng.integers(0, 4, (9, 12))
    graded[0] = 0
    binary = graded >= 2
    ours = {
        "retrieval_hit_rate": HitRate(k, relevant_from=2),
        "retrieval_recall": RecallAtK(k, relevant_from=2),
        "retrieval_precision": PrecisionAtK(k, relevant_from=2),
        "retrieval_mrr": MeanReciprocalRank(k, relevant_from=2),
        "retrieval_map": MeanAveragePrecision(k, relevant_from=2, denominator="relevant"),
    }
    theirs = {
        "retrieval_hit_rate": torchmetrics.RetrievalHitRate(top_k=k),
        "retrieval_recall": torchmetrics.RetrievalRecall(top_k=k),
        "retrieval_precision": torchmetrics.RetrievalPrecision(top_k=k),
        "retrieval_mrr": torchmetrics.RetrievalMRR(top_k=k),
    }
    if k == 12:
        theirs["retrieval_map"] = torchmetrics.RetrievalMAP()
    queries = torch.arange(9).repeat_interleave(12)
    flat = torch.from_numpy(scores).float().flatten(), torch.from_numpy(binary).flatten()
    for name, their in theirs.items():
        ours[name].update(torch.from_numpy(scores), torch.from_numpy(graded))
        assert ours[name].compute().item() == pytest.approx(their(*flat, indexes=queries).item(), rel=1e-6), name
    for metric, score in [
        (NDCG(k, gain="linear"), sklearn_metrics.ndcg_score),
        (DCG(k, gain="linear"), sklearn_metrics.dcg_score),
    ]:
        metric.update(torch.from_numpy(scores), torch.from_numpy(graded))
        assert metric.compute().item() == pytest.approx(score(graded, scores, k=k))


def test_equal_scores_keep_their_order_and_close_scores_are_not_equal():
    metric = MeanReciprocalRank()
    for _ in range(20):
        metric.update(torch.zeros(1, 4), torch.tensor([[0, 0, 1, 0]]))
    assert metric.compute().item() == pytest.approx(1 / 3)  # never shuffled
    metric = MeanReciprocalRank()
    scores = torch.tensor([[1.0, 1.0, 1 + 2.0**-22]])  # closer than 1e-6
    metric.update(scores, torch.tensor([[0, 0, 1]]))
    assert metric.compute() == 1


@pytest.mark.parametrize("kind", ALL)
def test_a_collapsed_model_is_no_champion_if_ties_are_pessimistic(kind):
    labels = torch.tensor([[1, 0, 0, 0]])  # the positive stands first, as samplers have it
    optimistic, honest = kind(1), kind(1, ties="pessimistic")
    for metric in (optimistic, honest):
        metric.update(torch.full((1, 4), 0.5), labels)
    assert (optimistic.compute(), honest.compute()) == (1, 0)


@pytest.mark.parametrize("kind", ALL)
def test_masked_items_rank_below_minus_infinity(kind):
    metric, plain = kind(2), kind(2)
    mask = torch.tensor([[False, True, True]])
    metric.update(torch.tensor([[torch.nan, -torch.inf, 1.0]]), torch.tensor([[3, 1, 0]]), mask=mask)
    plain.update(torch.tensor([[0.0, 1.0]]), torch.tensor([[1, 0]]))
    assert metric.compute() == plain.compute()


@pytest.mark.parametrize("kind", ALL)
def test_lists_that_say_nothing_are_left_out(kind):
    metric, plain = kind(), kind()
    plain.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[0, 1]]))
    metric.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[0, 1]]))
    metric.update(torch.zeros(3, 2), torch.ones(3, 2), mask=torch.zeros(3, 2, dtype=torch.bool))
    metric.update(torch.zeros(3, 2), torch.full((3, 2), -1))
    metric.update(torch.zeros(3, 2), torch.ones(3, 2), torch.zeros(3))
    metric.update(torch.zeros(0, 2), torch.zeros(0, 2))
    assert metric.compute() == plain.compute()
    assert metric.num_rows == 10


@pytest.mark.parametrize("kind", ALL)
def test_k_beyond_the_list_takes_the_whole_list(kind):
    long, whole = kind(50), kind()
    for metric in (long, whole):
        metric.update(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0, 2, 1]]))
    assert long.compute() == whole.compute()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("scores", "labels", "weight"),
    [
        ([math.nan, 1.0], [0.0, 1.0], [1.0, 1.0]),
        ([0.0, 1.0], [math.nan, 1.0], [1.0, 1.0]),
        ([0.0, 1.0], [0.0, 1.0], [1.0, -1.0]),
        ([0.0, 1.0], [0.0, 1.0], [1.0, math.inf]),
    ],
    ids=["score", "label", "negative weight", "infinite weight"],
)
def test_what_has_no_meaning_is_said_at_compute(kind, scores, labels, weight):
    metric = kind(3)
    metric.update(torch.zeros(2, 2), torch.ones(2, 2))
    metric.update(torch.tensor([scores]), torch.tensor([labels]), torch.tensor([weight]))
    with pytest.raises(DataError, match=rf"{metric.name}.*1 of 3 rows"):
        metric.compute()


@pytest.mark.parametrize("kind", ALL)
def test_shapes_that_would_broadcast_are_refused(kind):
    scores = torch.zeros(3, 4)
    for labels, weight, mask in [
        (torch.zeros(4), None, None),
        (scores, torch.ones(4), None),
        (scores, torch.ones(3, 1), None),
        (scores, None, torch.ones(4, dtype=torch.bool)),
        (scores, None, torch.ones(3, 4)),
    ]:
        with pytest.raises(ShapeError, match=kind().name):
            kind().update(scores, labels, weight, mask=mask)
    with pytest.raises(ShapeError, match=r"scores\[None\]"):
        kind().update(scores[0], scores[0])


class SquareRoot(rr.core.Configurable):
    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, labels):
        return self.scale * labels.sqrt()


def test_gain_and_discount_functions():
    metric = DCG(gain=SquareRoot(2.0), discount="reciprocal")
    metric.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[4, 9]]))
    assert metric.compute().item() == pytest.approx(2 * 2 + 2 * 3 / 2)
    again = rr.core.from_config(rr.core.to_config(metric))
    again.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[4, 9]]))
    metric.merge(again)
    assert metric.compute() == again.compute()
    flat = DCG(2, gain="linear", discount="none")
    flat.update(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1, 3, 5]]))
    assert flat.compute() == 4


def test_names_and_json():
    assert [kind(10).name for kind in ALL] == [
        "precision@10", "recall@10", "hit_rate@10", "mrr@10", "map@10", "dcg@10", "ndcg@10"
    ]  # fmt: skip
    for kind in ALL:
        for metric in (kind(), kind(5, ties="pessimistic", without_relevant="skip", name="mine")):
            again = rr.core.from_config(rr.core.to_config(metric))
            assert (type(again), again.name, again.config) == (kind, metric.name, metric.config)
    assert NDCG(name="mine").name == "mine"


def test_bad_arguments():
    for kind in ALL:
        with pytest.raises(ConfigError, match="k of at least 1"):
            kind(0)
        with pytest.raises(ConfigError, match="ties"):
            kind(ties="shuffle")
        with pytest.raises(ConfigError, match="without_relevant"):
            kind(without_relevant="one")
    with pytest.raises(ConfigError, match="denominator"):
        RecallAtK(denominator="k")
    with pytest.raises(ConfigError, match="gain"):
        DCG(gain="square")
    with pytest.raises(ConfigError, match="Configurable"):
        NDCG(discount=lambda ranks: 1 / ranks)
    with pytest.raises(ConfigError, match="merge"):
        NDCG(5).merge(NDCG(6))


def test_updating_keeps_no_graph():
    for kind in ALL:
        metric = kind()
        metric.update(torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3))
        assert not any(value.requires_grad for value in metric.state_dict().values())
