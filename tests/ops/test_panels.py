"""The kernels that score and forget, against NumPy in float64, where embeddings are small integers and ties exact."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core import native
from retrank.core.jagged import Jagged
from retrank.index import Exact, Streaming
from retrank.ops.panels import BestCandidates, Panels, count_better
from retrank.ops.top_k import unpack

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")

WIDTHS = [1, 2, 7, 8, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 63, 64, 65, 167, 168, 169, 170, 401]


@pytest.fixture(params=[1, 2], scope="module")
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def whole_numbers(rng, rows, dim):
    return rng.integers(-2, 3, (rows, dim)).astype(np.float32)


def draw_lists(rng, num_rows, num_candidates):
    """Unsorted, with repeats, some of them all there is."""
    lists = [rng.integers(num_candidates, size=rng.choice([0, 1, 2, 40, 300])) for _ in range(num_rows)]
    return [rng.permutation(num_candidates) if rng.random() < 0.1 else some for some in lists]


def jagged(lists):
    return None if lists is None else Jagged.from_lists([list(map(int, row)) for row in lists])


def slow_counts(queries, candidates, order, positives, excluded):
    place, counts = np.argsort(order), []
    for row, scores in enumerate(queries.astype(np.float64) @ candidates.T.astype(np.float64)):
        own = positives[row]
        before = (scores > scores[own]) | ((scores == scores[own]) & (place < place[own]))
        if excluded is not None:
            before[excluded[row]] = False
        counts.append(int(before.sum()))
    return counts


def slow_best(queries, candidates, k, excluded):
    scores = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    found = []
    for row, values in enumerate(scores):
        gone = set() if excluded is None else set(excluded[row])
        found.append(sorted((-value, c) for c, value in enumerate(values) if c not in gone)[:k])
    return found


def count(queries, candidates, order, positives, excluded):
    tensors = map(torch.from_numpy, (queries, candidates, order, np.argsort(order), positives))
    return count_better(*tensors, jagged(excluded)).tolist()


def best(queries, candidates, k, excluded, cuts=()):
    found = BestCandidates(torch.from_numpy(queries), k, jagged(excluded))
    bounds = [0, *cuts, len(candidates)]
    for first, last in pairwise(bounds):
        found.add(Panels(torch.from_numpy(candidates[first:last])), first)
    scores, rows = unpack(found.packed())
    return [
        [(-score, row) for score, row in zip(*pair, strict=True) if row >= 0]
        for pair in zip(scores.tolist(), rows.tolist(), strict=True)
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([0, 1, 2, 5, 6, 7, 13, 14, 15, 72, 73, 168, 169, 200]),
    st.sampled_from(WIDTHS),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_counts(threads, num_queries, num_candidates, dim, exclude, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, num_queries, dim), whole_numbers(rng, num_candidates, dim)
    order, positives = rng.permutation(num_candidates), rng.integers(num_candidates, size=num_queries)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    found = count(queries, candidates, order, positives, excluded)
    assert found == slow_counts(queries, candidates, order, positives, excluded)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([1, 2, 7, 14, 15, 40, 169]),
    st.sampled_from(WIDTHS),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_best_candidates(threads, num_queries, num_candidates, dim, exclude, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, num_queries, dim), whole_numbers(rng, num_candidates, dim)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    k = int(rng.choice([1, num_candidates, rng.integers(1, num_candidates + 1)]))
    cuts = sorted(rng.integers(num_candidates + 1, size=rng.integers(3)).tolist())
    cuts = [cut for cut in dict.fromkeys(cuts) if 0 < cut < num_candidates]
    assert best(queries, candidates, k, excluded, cuts) == slow_best(queries, candidates, k, excluded)


@pytest.mark.parametrize("num_candidates", [1, 33, 500])
def test_copies_of_one_vector_come_in_their_order(threads, num_candidates):
    rng = np.random.default_rng(0)
    candidates = np.broadcast_to(rng.normal(size=19).astype(np.float32), (num_candidates, 19)).copy()
    queries = np.concatenate([rng.normal(size=(9, 19)), np.zeros((1, 19))]).astype(np.float32)  # scores that round
    order, positives = rng.permutation(num_candidates), rng.integers(num_candidates, size=10)
    assert count(queries, candidates, order, positives, None) == np.argsort(order)[positives].tolist()
    for k in {1, min(40, num_candidates), num_candidates}:
        for row in best(queries, candidates, k, None, [num_candidates // 2] if num_candidates > 1 else []):
            assert [candidate for _, candidate in row] == list(range(k))


def test_the_worst_order_for_a_list_of_the_best(threads):
    candidates = np.arange(3000, dtype=np.float32)[:, None]  # every candidate is better than all before
    queries = np.array([[1.0], [-1.0], [0.0]], dtype=np.float32)
    for k in (1, 63, 64, 65, 1000, 3000):
        excluded = [range(2990, 3000), range(10), []]
        assert best(queries, candidates, k, excluded) == slow_best(queries, candidates, k, excluded)


def test_the_positive_may_be_excluded_and_counts_nevertheless(threads):
    candidates, queries = np.array([[3.0], [2.0], [2.0], [1.0]], dtype=np.float32), np.ones((4, 1), dtype=np.float32)
    excluded = [[0, 0], [2, 0, 2], [1, 2, 3, 1], [3, 2, 1, 0]]
    assert count(queries, candidates, np.arange(4), np.array([1, 2, 0, 3]), excluded) == [0, 1, 0, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_zero_has_no_sign_and_the_smallest_numbers_differ(threads, sign):
    tiny = np.float32(1e-42)  # denormal
    candidates = np.array([[0.0], [-0.0], [tiny], [-tiny], [0.0]], dtype=np.float32)
    queries = np.array([[sign]], dtype=np.float32)
    for positive in range(5):
        positives = np.array([positive])
        found = count(queries, candidates, np.arange(5), positives, None)
        assert found == slow_counts(queries, candidates, np.arange(5), positives, None)
    [found] = best(queries, candidates, 5, None)
    assert [row for _, row in found] == ([2, 0, 1, 4, 3] if sign > 0 else [3, 0, 1, 4, 2])


def test_ties_at_zero_where_denormals_are_flushed():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # other threads do as they like
    if not torch.set_flush_denormal(True):
        pytest.skip("not on this processor")
    try:
        zeros = np.zeros((50, 2), dtype=np.float32)
        assert count(zeros, zeros, np.arange(50), np.arange(50), None) == list(range(50))
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [1, 16, 130])
def test_a_result_depends_on_its_query_alone_and_on_no_number_of_threads(dim):
    torch.manual_seed(dim)
    queries, candidates, positives = torch.randn(175, dim), torch.randn(777, dim), torch.randint(777, (175,))
    order = torch.randperm(777)
    place, index, results = torch.argsort(order), Exact(candidates), []
    streaming = Streaming(lambda: ((some, None) for some in candidates.split(100)))
    before = torch.get_num_threads()
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        for size in (175, 64, 3, 1) if num_threads < 3 else (175, 1):
            some = range(0, 175, size) if size > 1 else range(0, 175, 29)
            found = [
                (
                    *index.search_ids(queries[first : first + size], 90),
                    count_better(
                        queries[first : first + size], candidates, order, place, positives[first:][:size], None
                    ),
                )
                for first in some
            ]
            results.append((some, size, [torch.cat(tensors) for tensors in zip(*found, strict=True)]))
    torch.set_num_threads(before)
    whole = results[0][2]
    for some, size, found in results[1:]:
        rows = torch.cat([torch.arange(175)[first : first + size] for first in some])
        assert all(torch.equal(ours, theirs[rows]) for ours, theirs in zip(found, whole, strict=True))
    assert all(map(torch.equal, streaming.search_ids(queries, 90), whole))
    own = (index.search_ids(queries, 777).ids == positives[:, None]).nonzero()[:, 1]
    assert torch.equal(own, whole[2])  # one arithmetic for ranks and searches: no ties here


def test_candidates_of_other_layouts(threads):
    torch.manual_seed(0)
    queries, candidates = torch.randn(9, 40).T, torch.randn(9, 100).T
    expected = Exact(candidates.contiguous()).search_ids(queries.contiguous(), 30)
    assert all(map(torch.equal, Exact(candidates).search_ids(queries, 30), expected))
    streaming = Streaming(lambda: ((some, None) for some in candidates.split(7)))
    assert all(map(torch.equal, streaming.search_ids(queries, 30), expected))


def test_agrees_with_plain_torch_but_for_rounding():
    torch.manual_seed(0)
    queries, index = torch.randn(50, 48), Exact(torch.randn(2000, 48))
    found = index.search_ids(queries, 100)
    with native.without_kernels():
        expected = index.search_ids(queries, 100)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    assert (found.ids == expected.ids).float().mean() > 0.99
