"""The search that scores every candidate, against NumPy in float64: small integers make ties exact."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.search_oracle import SIZES, draw_lists, jagged, slow_best, whole_numbers

from retrank.core import native
from retrank.core.jagged import Jagged
from retrank.ops import score_blocks
from retrank.ops.best_candidates import best_candidates, best_of_stream
from retrank.ops.prepared_candidates import prepare_candidates

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")
BATCHES = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 27, 29, 40, 169])  # around the rows of a tile


@pytest.fixture(scope="module", autouse=True)
def many_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_blocks, "CPU_SHAPE", (32, 64))
        yield


def as_pairs(scores, rows):
    """List what was found; missing places come last and look alike."""
    missing = rows < 0
    assert (scores[missing] == -torch.inf).all()
    assert not (missing[:, :-1] & ~missing[:, 1:]).any()
    return [
        [(score, row) for score, row in zip(*pair, strict=True) if row >= 0]
        for pair in zip(scores.tolist(), rows.tolist(), strict=True)
    ]


def best(queries, candidates, k, excluded=None, allow=None):
    prepared = prepare_candidates(torch.from_numpy(candidates))
    return as_pairs(*best_candidates(torch.from_numpy(queries), prepared, k, exclude=jagged(excluded), allow=allow))


def streamed(queries, candidates, k, excluded=None, allow=None, piece=256):
    pieces = np.split(candidates, range(piece, len(candidates), piece))
    parts = (prepare_candidates(torch.from_numpy(some)) for some in pieces)
    where = {"dim": candidates.shape[1], "device": torch.device("cpu")}
    lists = {"exclude": jagged(excluded), "allow": allow}
    return as_pairs(*best_of_stream(torch.from_numpy(queries), parts, len(candidates), k, **where, **lists))


@settings(max_examples=50)
@given(BATCHES, st.sampled_from(SIZES), st.integers(1, 20), st.booleans(), st.integers(0, 10**6))
def test_the_best_by_score_then_row(num_queries, num_candidates, dim, exclude, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, num_queries, dim), whole_numbers(rng, num_candidates, dim)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    k = int(rng.choice([1, num_candidates, rng.integers(1, num_candidates + 1)]))
    expected = slow_best(queries, candidates, k, excluded)
    assert best(queries, candidates, k, excluded) == expected
    assert streamed(queries, candidates, k, excluded) == expected


@settings(max_examples=50)
@given(BATCHES, st.sampled_from(SIZES), st.sampled_from([0.0, 0.03, 0.5, 1.0]), st.booleans(), st.integers(0, 10**6))
def test_what_all_queries_may_get(num_queries, num_candidates, share, exclude, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, num_queries, 5), whole_numbers(rng, num_candidates, 5)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    k, mask = int(rng.integers(1, num_candidates + 1)), rng.random(num_candidates) < share
    allowed = np.repeat(rng.permutation(mask.nonzero()[0]), 2)
    expected = slow_best(queries, candidates, k, excluded, [allowed] * num_queries)
    for allow in (torch.from_numpy(mask), jagged([allowed])):
        assert best(queries, candidates, k, excluded, allow) == expected
        assert streamed(queries, candidates, k, excluded, allow) == expected


@settings(max_examples=50)
@given(BATCHES, st.sampled_from(SIZES), st.booleans(), st.integers(0, 10**6))
def test_what_each_query_may_get(num_queries, num_candidates, exclude, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, num_queries, 5), whole_numbers(rng, num_candidates, 5)
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    allowed = draw_lists(rng, num_queries, num_candidates)  # short ones and long ones take different roads
    k = int(rng.integers(1, num_candidates + 1))
    expected = slow_best(queries, candidates, k, excluded, allowed)
    assert best(queries, candidates, k, excluded, jagged(allowed)) == expected
    assert streamed(queries, candidates, k, excluded, jagged(allowed)) == expected


def test_lists_that_are_all_empty():
    queries, candidates = np.ones((2, 1), dtype=np.float32), np.ones((64, 1), dtype=np.float32)
    for allow in (jagged([[], []]), jagged([[]]), torch.zeros(64, dtype=torch.bool)):
        assert best(queries, candidates, 3, None, allow) == [[], []]
        assert streamed(queries, candidates, 3, None, allow) == [[], []]
    assert best(queries, candidates, 3, [[], []]) == streamed(queries, candidates, 3) == [[(1, 0), (1, 1), (1, 2)]] * 2


def test_long_lists_of_excluded_candidates_that_are_the_best():
    candidates = np.arange(5000, dtype=np.float32)[:, None]
    queries, excluded = np.ones((3, 1), dtype=np.float32), [range(100, 5000), range(0, 5000, 2), []]
    assert best(queries, candidates, 20, excluded) == slow_best(queries, candidates, 20, excluded)
    mask = torch.arange(5000) < 100
    assert best(queries, candidates, 20, None, mask) == slow_best(queries, candidates, 20, None, [range(100)] * 3)


@pytest.mark.parametrize("num_candidates", [1, 33, 500])
def test_copies_of_one_vector_come_in_row_order(num_candidates):
    rng = np.random.default_rng(0)
    candidates = np.broadcast_to(rng.normal(size=19).astype(np.float32), (num_candidates, 19)).copy()
    queries = np.concatenate([rng.normal(size=(9, 19)), np.zeros((1, 19))]).astype(np.float32)  # scores that round
    for k in {1, min(40, num_candidates), num_candidates}:
        for found in (best(queries, candidates, k), streamed(queries, candidates, k)):
            assert [[row for _, row in places] for places in found] == [list(range(k))] * 10


def test_the_worst_order_for_a_list_of_the_best():
    candidates = np.arange(3000, dtype=np.float32)[:, None]  # every candidate is better than all before
    queries = np.array([[1.0], [-1.0], [0.0]], dtype=np.float32)
    for k in (1, 63, 64, 65, 1000, 3000):
        excluded = [range(2990, 3000), range(10), []]
        assert best(queries, candidates, k, excluded) == slow_best(queries, candidates, k, excluded)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_zero_has_no_sign_and_the_smallest_numbers_differ(sign):
    tiny = np.float32(1e-42)  # denormal
    candidates = np.array([[0.0], [-0.0], [tiny], [-tiny], [0.0]], dtype=np.float32)
    [found] = best(np.array([[sign]], dtype=np.float32), candidates, 5)
    assert [row for _, row in found] == ([2, 0, 1, 4, 3] if sign > 0 else [3, 0, 1, 4, 2])


@pytest.mark.parametrize("dim", [1, 16, 33, 130])
def test_a_result_depends_on_its_query_alone(dim):
    queries, candidates = torch.randn(175, dim), torch.randn(777, dim)
    prepared = prepare_candidates(candidates)
    scores, rows = best_candidates(queries, prepared, 90)
    for size in (1, 2, 3, 4, 5, 9, 14, 64):  # all tiles there are
        for first in range(0, 170, 41):
            part = best_candidates(queries[first : first + size], prepared, 90)
            assert torch.equal(part[0], scores[first : first + size])
            assert torch.equal(part[1], rows[first : first + size])
    everything = torch.ones(777, dtype=torch.bool), Jagged(torch.arange(777), torch.tensor([0, 777]))
    few = rows[:, :40].flip(1)
    own = Jagged(few.flatten(), torch.arange(0, few.numel() + 1, 40))
    for allow in everything:
        assert all(map(torch.equal, best_candidates(queries, prepared, 90, allow=allow), (scores, rows)))
    assert torch.equal(best_candidates(queries, prepared, 40, allow=own)[0], scores[:, :40])
    one = Jagged(few[0], torch.tensor([0, 40]))
    assert torch.equal(best_candidates(queries[:1], prepared, 40, allow=one)[0], scores[:1, :40])
    assert torch.equal(best_candidates(queries[:3], prepared, 40, allow=one)[0][0], scores[0, :40])
    larger = prepare_candidates(torch.cat([candidates, torch.randn(900, dim)]))
    mask = torch.arange(1677) < 777
    assert torch.equal(best_candidates(queries, larger, 90, allow=mask)[0], scores)


@pytest.mark.parametrize("num_queries", [1, 3, 30, 180])
def test_a_result_does_not_depend_on_the_number_of_threads(num_queries):
    queries, prepared = torch.randn(num_queries, 150), prepare_candidates(torch.randn(8000, 150))
    mask, before, results = torch.rand(8000) < 0.5, torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            found = best_candidates(queries, prepared, 30)
            exclude = Jagged(found[1].flatten(), torch.arange(0, 30 * num_queries + 1, 30))
            results.append((*found, *best_candidates(queries, prepared, 30, allow=mask, exclude=exclude)))
    finally:
        torch.set_num_threads(before)
    assert not (results[0][1][:, :, None] == results[0][3][:, None]).any()
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


def test_threads_that_search_at_once_find_what_one_finds():
    queries, prepared = torch.randn(48, 16), prepare_candidates(torch.randn(300, 16))
    exclude = Jagged.from_lists([list(range(row)) for row in range(48)])
    scores, rows = best_candidates(queries, prepared, 20, exclude=exclude)
    wrong, start = [], threading.Barrier(16)

    def search(first):
        start.wait()
        for row in (*range(first, 48), *range(first)):
            found = best_candidates(queries[row : row + 1], prepared, 20, exclude=exclude[row : row + 1])
            if not (torch.equal(found[0][0], scores[row]) and torch.equal(found[1][0], rows[row])):
                wrong.append(row)

    workers = [threading.Thread(target=search, args=(3 * number,)) for number in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_queries_and_masks_of_other_layouts():
    queries, candidates, mask = torch.randn(9, 40).T, torch.randn(9, 100).T, torch.randn(200)[::2] > 0
    exclude = Jagged(torch.randint(100, (160,))[::2], torch.arange(0, 82)[::2])
    expected = best_candidates(
        queries.contiguous(),
        prepare_candidates(candidates.contiguous()),
        30,
        exclude=Jagged(exclude.values.contiguous(), exclude.offsets.contiguous()),
        allow=mask.contiguous(),
    )
    found = best_candidates(queries, prepare_candidates(candidates), 30, exclude=exclude, allow=mask)
    assert all(map(torch.equal, found, expected))


def test_what_was_prepared_for_the_kernels_can_be_searched_without():
    queries, candidates = torch.randn(50, 48), torch.randn(2000, 48)
    prepared = prepare_candidates(candidates)
    found = best_candidates(queries, prepared, 100)
    with native.without_kernels():
        expected = best_candidates(queries, prepared, 100)
        assert all(map(torch.equal, expected, best_candidates(queries, prepare_candidates(candidates), 100)))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == expected[1]).float().mean() > 0.99
