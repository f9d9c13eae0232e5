import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.metrics import FullCorpusTopK, rank_of_positive
from retrank.ops import score_blocks

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@pytest.fixture(scope="module", autouse=True)
def many_blocks():
    """Cut a few hundred candidates into many blocks, as hundred thousands are in earnest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_blocks, "CPU_SHAPE", (32, 320))
        yield


def tie_places(num_candidates):
    """The place of each candidate in the order of ties, seen from outside: its rank where all scores are equal."""
    return rank_of_positive(
        torch.zeros(num_candidates, 1), torch.zeros(num_candidates, 1), torch.arange(num_candidates)
    ).numpy()


def slow_ranks(scores, positives, places, exclude=None):
    ranks = []
    for row, positive in enumerate(positives):
        if positive == -1:
            ranks.append(math.inf)
            continue
        counts = np.ones(scores.shape[1], dtype=bool)
        if exclude is not None:
            counts[exclude[row]] = False
        own = scores[row, positive]
        better = (scores[row] > own) | ((scores[row] == own) & (places < places[positive]))
        ranks.append(1 + int((better & counts).sum()))
    return np.array(ranks, dtype=np.float64)


@settings(max_examples=60)
@given(st.integers(0, 80), st.integers(1, 1300), st.integers(1, 6), st.integers(0, 10**6), st.booleans())
def test_rank_is_the_definition(num_queries, num_candidates, dim, seed, exclude):
    rng = np.random.default_rng(seed)
    step = rng.choice([1, 4, 64])  # from nothing but ties to hardly any; exact in float32 and in float64
    queries = (rng.integers(-step, step + 1, size=(num_queries, dim)) / 64).astype(np.float32)
    candidates = (rng.integers(-step, step + 1, size=(num_candidates, dim)) / 64).astype(np.float32)
    positives = rng.integers(-1, num_candidates, size=num_queries)
    excluded = None
    if exclude:
        excluded = [
            rng.integers(num_candidates, size=rng.choice([0, 1, 5, 900])).tolist()
            + [max(positive, 0)] * rng.integers(0, 3)  # with repeats, and with the positive itself
            for positive in positives
        ]
    ranks = rank_of_positive(
        torch.from_numpy(queries),
        torch.from_numpy(candidates),
        torch.from_numpy(positives),
        exclude=None if excluded is None else Jagged.from_lists(excluded),
    )
    scores = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    assert np.array_equal(ranks.numpy(), slow_ranks(scores, positives, tie_places(num_candidates), excluded))


@pytest.mark.parametrize("dim", [3, 17, 32, 100])
def test_rounding_never_moves_a_copy_of_the_positive(dim):
    torch.manual_seed(dim)
    num_candidates = 2600
    candidates = torch.randn(dim).expand(num_candidates, dim)  # a collapsed model with numbers that round
    positives = torch.randperm(num_candidates)[:70]
    ranks = rank_of_positive(torch.randn(70, dim), candidates, positives)
    assert np.array_equal(ranks.numpy(), tie_places(num_candidates)[positives])


@pytest.mark.parametrize("num_candidates", [1, 7, 1682, 2500])
def test_a_collapsed_model_scores_like_chance(num_candidates):
    places = tie_places(num_candidates)
    assert sorted(places) == list(range(1, num_candidates + 1))
    metric = FullCorpusTopK(ks=(1, 10))
    metric.update(torch.ones(num_candidates, 3), torch.ones(num_candidates, 3), torch.arange(num_candidates))
    result = metric.compute()
    assert result["hit_rate@1"].item() == pytest.approx(1 / num_candidates)
    assert result["hit_rate@10"].item() == pytest.approx(min(10, num_candidates) / num_candidates)


def test_the_order_of_ties_is_not_the_order_of_rows():
    places = tie_places(1682)
    assert abs(np.corrcoef(places, np.arange(1682))[0, 1]) < 0.1
    assert np.array_equal(places, tie_places(1682))


def test_random_scores_against_a_full_sort_in_the_same_arithmetic():
    torch.manual_seed(0)
    queries, candidates = torch.randn(200, 40), torch.randn(5000, 40)
    positives = torch.randint(5000, (200,))
    exact = queries.double() @ candidates.double().T
    expected = 1 + (exact > exact.gather(1, positives[:, None])).sum(1)
    ranks = rank_of_positive(queries, candidates, positives)
    gap = (exact - exact.gather(1, positives[:, None])).abs() < 1e-4  # within rounding, either order is right
    assert ((ranks - expected).abs() <= gap.sum(1) - 1).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_metric_is_the_weighted_mean_of_the_definitions(seed):
    rng = np.random.default_rng(seed)
    num_candidates, metric, ranks, weights = int(rng.integers(1, 60)), FullCorpusTopK(ks=(1, 3, 20)), [], []
    candidates = (rng.integers(-2, 3, size=(num_candidates, 2)) / 4).astype(np.float32)
    for _ in range(3):
        size = int(rng.integers(0, 9))
        queries = (rng.integers(-2, 3, size=(size, 2)) / 4).astype(np.float32)
        positives, weight = rng.integers(-1, num_candidates, size), rng.random(size).astype(np.float32)
        part = FullCorpusTopK(ks=(1, 3, 20))
        part.update(*map(torch.from_numpy, (queries, candidates, positives)), weight=torch.from_numpy(weight))
        metric.merge(part)
        ranks += slow_ranks(queries @ candidates.T, positives, tie_places(num_candidates)).tolist()
        weights += weight.tolist()
    restored = FullCorpusTopK(ks=(1, 3, 20))
    restored.load_state_dict(metric.state_dict())
    for result in (metric.compute(), restored.compute()):
        if not ranks:
            assert all(value.isnan() for value in result.values())
            return
        mean = {"mrr": np.average([1 / rank for rank in ranks], weights=weights)}
        for k in (1, 3, 20):
            mean[f"hit_rate@{k}"] = np.average([float(rank <= k) for rank in ranks], weights=weights)
            gains = [1 / math.log2(1 + rank) if rank <= k else 0.0 for rank in ranks]
            mean[f"ndcg@{k}"] = np.average(gains, weights=weights)
        assert {name: value.item() for name, value in result.items()} == pytest.approx(mean)
    assert metric.num_rows == len(ranks)


@golden(
    "tfrs_factorized_top_k_metric", without=("score_mode_ties", "score_mode_all_equal", "score_mode_candidate_outside")
)
def test_agrees_with_tfrs_where_no_scores_tie(case):
    inputs, arguments = case["inputs"], case["arguments"]
    candidates, ks = torch.tensor(inputs["candidates"]), arguments["constructor"]["ks"]
    metric = FullCorpusTopK(ks=ks, metrics=["hit_rate"])
    for update, expected in zip(inputs["updates"], case["expected"]["results_after_each_update"], strict=True):
        if "true_candidate_ids" in update:
            ids = inputs["identifiers"]
            positives = [ids.index(key) if key in ids else -1 for key in update["true_candidate_ids"]]
        else:
            rows = {tuple(row): number for number, row in enumerate(inputs["candidates"])}
            positives = [rows[tuple(row)] for row in update["true_candidate_embeddings"]]
        weight = torch.tensor(update["sample_weight"]).flatten() if "sample_weight" in update else None
        metric.update(torch.tensor(update["query_embeddings"]), candidates, torch.tensor(positives), weight=weight)
        result = metric.compute()
        assert [result[f"hit_rate@{k}"].item() for k in ks] == pytest.approx(expected, rel=1e-5)


@golden("tfrs_factorized_top_k_metric", "score_mode_ties")  # every candidate occurs twice
def test_ties_that_tfrs_counts_as_hits_are_won_by_one_of_two_here(case):
    [update], [optimistic] = case["inputs"]["updates"], case["expected"]["results_after_each_update"]
    queries, candidates = torch.tensor(update["query_embeddings"]), torch.tensor(case["inputs"]["candidates"])
    scores, half = (queries @ candidates.T).numpy(), len(candidates) // 2
    firsts = [case["inputs"]["candidates"].index(positive) for positive in update["true_candidate_embeddings"]]
    higher = np.array([(row > row[first]).sum() for row, first in zip(scores, firsts, strict=True)])
    assert [np.mean(higher < k) for k in (1, 4)] == pytest.approx(optimistic, rel=1e-5)
    copies = [rank_of_positive(queries, candidates, torch.tensor(firsts) + shift).numpy() for shift in (0, half)]
    assert np.array_equal(np.sort(copies, axis=0), [higher + 1, higher + 2])  # neither shares the other's rank
    places = tie_places(len(candidates))
    assert np.array_equal(copies[0] < copies[1], [places[first] < places[first + half] for first in firsts])
    metric = FullCorpusTopK(ks=(1, 4), metrics=["hit_rate"])
    for shift in (0, half):
        metric.update(queries, candidates, torch.tensor(firsts) + shift)
    result = [value.item() for value in metric.compute().values()]
    assert result == pytest.approx([np.mean([higher + 1 <= k, higher + 2 <= k]) for k in (1, 4)])
    assert result == pytest.approx([optimistic[0] / 2, optimistic[1]], rel=1e-5)


@golden("tfrs_factorized_top_k_metric", "score_mode_candidate_outside")
def test_a_positive_that_tfrs_scores_outside_of_the_corpus_is_a_miss_until_the_corpus_has_it(case):
    [update], [expected] = case["inputs"]["updates"], case["expected"]["results_after_each_update"]
    queries, candidates = torch.tensor(update["query_embeddings"]), torch.tensor(case["inputs"]["candidates"])
    outside, ks = torch.tensor(update["true_candidate_embeddings"]), case["arguments"]["constructor"]["ks"]
    metric = FullCorpusTopK(ks=ks, metrics=["hit_rate"])
    metric.update(queries, candidates, torch.full((len(queries),), -1))
    assert [value.item() for value in metric.compute().values()] == [0.0] * len(ks)
    metric.reset()
    for query, positive in zip(queries, outside, strict=True):
        corpus = torch.cat([candidates, positive[None]])
        metric.update(query[None], corpus, torch.tensor([len(candidates)]))
    assert [value.item() for value in metric.compute().values()] == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 700), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
def test_the_best_head_of_a_query_counts(num_queries, num_candidates, num_heads, exclude, seed):
    rng = np.random.default_rng(seed)
    queries = (rng.integers(-4, 5, size=(num_queries, num_heads, 3)) / 64).astype(np.float32)
    candidates = (rng.integers(-4, 5, size=(num_candidates, 3)) / 64).astype(np.float32)
    positives = rng.integers(-1, num_candidates, size=num_queries)
    excluded = [rng.integers(num_candidates, size=9).tolist() for _ in positives] if exclude else None
    ranks = rank_of_positive(
        *map(torch.from_numpy, (queries, candidates, positives)),
        exclude=None if excluded is None else Jagged.from_lists(excluded),
    )
    scores = np.einsum("bhd,nd->bhn", queries.astype(np.float64), candidates.astype(np.float64)).max(axis=1)
    if excluded is not None:
        excluded = [[row for row in rows if row != own] for rows, own in zip(excluded, positives, strict=True)]
    assert np.array_equal(ranks.numpy(), slow_ranks(scores, positives, tie_places(num_candidates), excluded))


def test_a_bad_head_is_found():
    queries = torch.ones(3, 2, 4)
    queries[1, 1, 2] = torch.nan
    with pytest.raises(DataError, match="row 1"):
        rank_of_positive(queries, torch.ones(5, 4), torch.tensor([0, 1, 2]))
    for shape in ((3,), (3, 0, 4), (3, 2, 2, 4), (3, 2, 5)):
        with pytest.raises(ShapeError, match="queries"):
            rank_of_positive(torch.ones(shape), torch.ones(5, 4), torch.tensor([0, 1, 2]))


@golden("tfrs_factorized_top_k_metric", "score_mode_all_equal")
def test_ties_that_tfrs_counts_as_hits_are_chance_here(case):
    candidates = torch.tensor(case["inputs"]["candidates"])
    queries = torch.tensor(case["inputs"]["updates"][0]["query_embeddings"])
    assert case["expected"]["results_after_each_update"] == [[1.0, 1.0]]
    metric = FullCorpusTopK(ks=(1, 5))
    for row in range(len(candidates)):
        metric.update(queries, candidates, torch.full((len(queries),), row))
    result = metric.compute()
    assert result["hit_rate@1"].item() == pytest.approx(1 / len(candidates))
    assert result["hit_rate@5"].item() == pytest.approx(5 / len(candidates))


def test_a_positive_outside_of_the_corpus_is_a_miss():
    metric = FullCorpusTopK(ks=(1, 100))
    metric.update(torch.ones(1, 1), torch.ones(3, 1), torch.tensor([-1]))
    assert all(value == 0 for value in metric.compute().values())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["queries", "candidates", "positives", "weight"])
def test_what_is_not_finite_is_an_error_and_never_rank_1(where, bad):
    inputs = {
        "queries": torch.ones(3, 2),
        "candidates": torch.ones(4, 2),
        "positives": torch.tensor([0, 1, 2]),
        "weight": torch.ones(3),
    }
    if where == "positives":
        inputs[where][1] = 4 if bad == torch.inf else -2
    else:
        inputs[where].view(-1)[2] = bad
    metric = FullCorpusTopK()
    metric.update(inputs["queries"], inputs["candidates"], inputs["positives"], weight=inputs["weight"])
    with pytest.raises(DataError, match="full_corpus"):
        metric.compute()
    if where != "weight":
        with pytest.raises(DataError, match="row [01]"):
            rank_of_positive(inputs["queries"], inputs["candidates"], inputs["positives"])
    metric.reset()
    assert metric.compute()["mrr"].isnan()


def test_bad_arguments():
    for arguments, message in [
        ({"ks": ()}, "at least one k"),
        ({"ks": (0, 5)}, "at least 1"),
        ({"metrics": ("map",)}, "map"),
        ({"metrics": ()}, "metrics among"),
    ]:
        with pytest.raises(ConfigError, match=message):
            FullCorpusTopK(**arguments)
    queries, candidates = torch.ones(2, 2), torch.ones(3, 2)
    with pytest.raises(ShapeError, match="positives"):
        rank_of_positive(queries, candidates, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ShapeError, match="queries"):
        rank_of_positive(torch.ones(2, 3), candidates, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match="exclude, row 1"):
        rank_of_positive(queries, candidates, torch.tensor([0, 0]), exclude=Jagged.from_lists([[], [3]]))
    with pytest.raises(ShapeError, match="weight"):
        FullCorpusTopK().update(queries, candidates, torch.tensor([0, 0]), weight=torch.ones(2, 1))
    with pytest.raises(ConfigError, match="merge"):
        FullCorpusTopK(ks=(1,)).merge(FullCorpusTopK(ks=(2,)))


def test_is_rebuilt_from_json():
    metric = FullCorpusTopK(ks=(3, 7), metrics=("mrr", "hit_rate"))
    again = rr.core.from_config(rr.core.to_config(metric))
    assert again.result_names == metric.result_names == ("mrr", "hit_rate@3", "hit_rate@7")


def test_autocast_does_not_change_ranks():
    torch.manual_seed(0)
    queries, candidates, positives = torch.randn(40, 8), torch.randn(900, 8), torch.randint(900, (40,))
    expected = rank_of_positive(queries, candidates, positives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rank_of_positive(queries, candidates, positives), expected)


@pytest.mark.parametrize("num_queries", [1, 13, 15, 170])
@pytest.mark.parametrize("num_candidates", [1, 31, 33, 700])
def test_a_rank_depends_on_its_query_alone(num_queries, num_candidates):
    torch.manual_seed(num_queries)
    queries, candidates = torch.randn(num_queries, 9), torch.randn(num_candidates, 9).round(decimals=1)
    candidates[num_candidates // 2 :] = candidates[0]  # ties of numbers that round
    positives = torch.randint(num_candidates, (num_queries,))
    lists = [torch.randint(num_candidates, (row % 4 * 30,)).tolist() for row in range(num_queries)]
    whole = rank_of_positive(queries, candidates, positives, exclude=Jagged.from_lists(lists))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for row in range(0, num_queries, 7):
            some = slice(row, row + 1 + row % 3)
            exclude = Jagged.from_lists(lists[some])
            alone = rank_of_positive(queries[some], candidates, positives[some], exclude=exclude)
            assert torch.equal(alone, whole[some])
    finally:
        torch.set_num_threads(before)
