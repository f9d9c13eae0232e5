"""How many candidates come before a positive, against NumPy in float64: small integers make ties exact."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.search_oracle import SIZES, draw_lists, jagged, whole_numbers

from retrank.core import native
from retrank.core.jagged import Jagged
from retrank.ops.best_candidates import best_candidates
from retrank.ops.prepared_candidates import prepare_candidates
from retrank.ops.ranks import count_better

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def slow_counts(queries, candidates, order, positives, excluded):
    place, counts = np.argsort(order), []
    scores = np.einsum("bhd,nd->bhn", queries.astype(np.float64), candidates.astype(np.float64)).max(axis=1)
    for row, values in enumerate(scores):
        own = positives[row]
        before = (values > values[own]) | ((values == values[own]) & (place < place[own]))
        if excluded is not None:
            before[np.setdiff1d(excluded[row], own)] = False
        counts.append(int(before.sum()))
    return counts


def count(queries, candidates, order, positives, excluded=None):
    tensors = map(torch.from_numpy, (queries, candidates, order, positives))
    return count_better(*tensors, exclude=jagged(excluded)).tolist()


@settings(max_examples=40)
@given(
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 72, 168, 169, 200]),
    st.sampled_from(SIZES),
    st.integers(1, 20),
    st.sampled_from([1, 1, 3]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_counts(num_queries, num_candidates, dim, num_heads, exclude, seed):
    rng = np.random.default_rng(seed)
    queries = whole_numbers(rng, num_queries * num_heads, dim).reshape(num_queries, num_heads, dim)
    candidates = whole_numbers(rng, num_candidates, dim)
    order, positives = rng.permutation(num_candidates), rng.integers(num_candidates, size=num_queries)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    found = count(queries, candidates, order, positives, excluded)
    assert found == slow_counts(queries, candidates, order, positives, excluded)


@pytest.mark.parametrize("num_candidates", [1, 33, 500])
def test_copies_of_one_vector_come_in_their_order(num_candidates):
    rng = np.random.default_rng(0)
    candidates = np.broadcast_to(rng.normal(size=19).astype(np.float32), (num_candidates, 19)).copy()
    queries = np.concatenate([rng.normal(size=(9, 19)), np.zeros((1, 19))]).astype(np.float32)  # scores that round
    order, positives = rng.permutation(num_candidates), rng.integers(num_candidates, size=10)
    assert count(queries[:, None], candidates, order, positives) == np.argsort(order)[positives].tolist()


def test_the_positive_may_be_excluded_and_counts_nevertheless():
    candidates, queries = np.array([[3.0], [2.0], [2.0], [1.0]], dtype=np.float32), np.ones((4, 1, 1), dtype=np.float32)
    excluded = [[0, 0], [2, 0, 2], [1, 2, 3, 1], [3, 2, 1, 0]]
    assert count(queries, candidates, np.arange(4), np.array([1, 2, 0, 3]), excluded) == [0, 1, 0, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_zero_has_no_sign_and_the_smallest_numbers_differ(sign):
    tiny = np.float32(1e-42)  # denormal
    candidates = np.array([[0.0], [-0.0], [tiny], [-tiny], [0.0]], dtype=np.float32)
    queries = np.array([[[sign]]], dtype=np.float32)
    for positive in range(5):
        positives = np.array([positive])
        found = count(queries, candidates, np.arange(5), positives)
        assert found == slow_counts(queries, candidates, np.arange(5), positives, None)


def test_ties_at_zero_where_denormals_are_flushed():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # other threads do as they like
    if not torch.set_flush_denormal(True):
        pytest.skip("not on this processor")
    try:
        zeros = np.zeros((50, 2), dtype=np.float32)
        assert count(zeros[:, None], zeros, np.arange(50), np.arange(50)) == list(range(50))
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def test_a_count_does_not_depend_on_the_number_of_threads():
    queries, candidates, positives = torch.randn(300, 1, 8), torch.randn(500, 8), torch.randint(500, (300,))
    before, counts = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            counts.append(count_better(queries, candidates, torch.arange(500), positives))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(counts[0], counts[1])
    assert torch.equal(counts[0], counts[2])


@pytest.mark.parametrize("dim", [1, 16, 130])
def test_a_count_depends_on_its_query_alone_and_agrees_with_the_search(dim):
    queries, candidates, positives = torch.randn(60, 1, dim), torch.randn(777, dim), torch.randint(777, (60,))
    order = torch.randperm(777)
    whole = count_better(queries, candidates, order, positives)
    for size in (1, 3, 31):
        for first in range(0, 60, 29):
            some = slice(first, first + size)
            assert torch.equal(count_better(queries[some], candidates, order, positives[some]), whole[some])
    rows = best_candidates(queries[:, 0], prepare_candidates(candidates), 777)[1]
    assert torch.equal((rows == positives[:, None]).nonzero()[:, 1], whole)  # no ties here


def test_other_layouts_and_half_precision():
    queries, candidates = torch.randn(9, 40).T, torch.randn(9, 100).T.bfloat16()
    positives, order = torch.randint(100, (80,))[::2], torch.randperm(100)
    exclude = Jagged(torch.randint(100, (160,))[::2], torch.arange(0, 82)[::2])
    expected = count_better(
        queries.contiguous()[:, None],
        candidates.float().contiguous(),
        order,
        positives.contiguous(),
        exclude=Jagged(exclude.values.contiguous(), exclude.offsets.contiguous()),
    )
    assert torch.equal(count_better(queries[:, None], candidates, order, positives, exclude=exclude), expected)


def test_agrees_with_plain_torch_but_for_rounding():
    queries, candidates, positives = torch.randn(50, 1, 48), torch.randn(2000, 48), torch.randint(2000, (50,))
    found = count_better(queries, candidates, torch.arange(2000), positives)
    with native.without_kernels():
        expected = count_better(queries, candidates, torch.arange(2000), positives)
    assert (found - expected).abs().max() <= 1
