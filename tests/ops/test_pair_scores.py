"""Scores of pairs, bit by bit those of the search."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.ops import score_blocks
from retrank.ops.best_candidates import best_candidates
from retrank.ops.pair_scores import pair_scores
from retrank.ops.prepared_candidates import prepare_candidates

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@settings(max_examples=30)
@given(
    st.integers(0, 70), st.sampled_from([1, 5, 64, 700]), st.integers(1, 70), st.integers(0, 20), st.integers(0, 10**6)
)
def test_they_are_the_dot_products(num_queries, num_candidates, dim, places, seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(num_queries, dim)).astype(np.float32)
    candidates = rng.normal(size=(num_candidates, dim)).astype(np.float32)
    rows = rng.integers(-1, num_candidates, size=(num_queries, places))
    exact = np.einsum("bd,bpd->bp", queries.astype(np.float64), candidates[rows].astype(np.float64))
    found = pair_scores(*map(torch.from_numpy, (queries, candidates, rows)))
    np.testing.assert_allclose(found, np.where(rows < 0, -np.inf, exact), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [2048, 64])
@pytest.mark.parametrize("dim", [1, 3, 16, 33, 64, 128])
def test_they_are_those_of_a_search_to_the_bit(dim, width, monkeypatch):
    monkeypatch.setattr(score_blocks, "CPU_SHAPE", (32, width))
    queries, candidates = torch.randn(45, dim), torch.randn(3000, dim)
    expected, rows = best_candidates(queries, prepare_candidates(candidates), 90)
    assert torch.equal(pair_scores(queries, candidates, rows), expected)
    assert torch.equal(pair_scores(queries[7:8], candidates, rows[7:8, 5:6]), expected[7:8, 5:6])
    used, places = torch.unique(rows, return_inverse=True)
    assert torch.equal(pair_scores(queries, candidates[used], places), expected)  # whatever else there is


def test_candidates_and_rows_of_other_layouts():
    queries, candidates, rows = torch.randn(8, 9).T, torch.randn(8, 50).T, torch.randint(50, (4, 9)).T
    expected = pair_scores(queries.contiguous(), candidates.contiguous(), rows.contiguous())
    assert torch.equal(pair_scores(queries, candidates, rows), expected)


def test_no_candidates_are_fine_where_none_is_meant():
    assert pair_scores(torch.ones(2, 3), torch.ones(0, 3), torch.full((2, 1), -1)).tolist() == [[-torch.inf]] * 2


def test_bad_pairs_are_refused():
    queries, candidates = torch.ones(2, 3), torch.ones(4, 3)
    for row in (-2, 4, 2**40, -(2**40)):
        with pytest.raises(DataError, match=str(row)):
            pair_scores(queries, candidates, torch.tensor([[0], [row]]))
    for rows in (torch.zeros(2), torch.zeros(3, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int32)):
        with pytest.raises(ShapeError, match="rows"):
            pair_scores(queries, candidates, rows)
    with pytest.raises(ShapeError, match="same dim"):
        pair_scores(queries, torch.ones(4, 2), torch.zeros(2, 1, dtype=torch.int64))
