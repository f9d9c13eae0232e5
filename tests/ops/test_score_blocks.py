"""Plain torch's products: a score depends on its query and candidate alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core import native
from retrank.core.jagged import Jagged
from retrank.ops import score_blocks
from retrank.ops.prepared_candidates import prepare_candidates
from retrank.ops.score_blocks import BlockCells, BlockFilter, block_scores, query_chunks


def all_scores(queries, candidates, prepared_with_kernels=False):
    if prepared_with_kernels:
        prepared = prepare_candidates(candidates)
    else:
        with native.without_kernels():
            prepared = prepare_candidates(candidates)
    blocks = list(prepared.product_blocks())
    rows = [torch.cat([block_scores(chunk, block) for block in blocks], dim=1) for chunk in query_chunks(queries)]
    padded = torch.cat(rows)
    assert (padded[:, len(candidates) :] == 0).all()
    return padded[: len(queries), : len(candidates)]


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 2500), st.integers(1, 40), st.integers(0, 1000))
def test_scores_are_the_dot_products(num_queries, num_candidates, dim, seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(num_queries, dim)).astype(np.float32)
    candidates = rng.normal(size=(num_candidates, dim)).astype(np.float32)
    expected = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    got = all_scores(torch.from_numpy(queries), torch.from_numpy(candidates))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-4)
    from_panels = all_scores(torch.from_numpy(queries), torch.from_numpy(candidates), prepared_with_kernels=True)
    assert torch.equal(from_panels, got)


@pytest.mark.parametrize("dim", [1, 3, 8, 17, 32, 50, 64, 100, 128])
@pytest.mark.parametrize("num_candidates", [1, 63, 64, 65, 1682, 2047, 2048, 2049, 8193])
def test_equal_vectors_have_equal_scores_wherever_they_stand(dim, num_candidates):
    torch.manual_seed(dim * num_candidates)
    query, candidate = torch.randn(dim), torch.randn(dim)
    scores = all_scores(query.expand(70, dim), candidate.expand(num_candidates, dim))
    assert (scores == scores[0, 0]).all()


@pytest.mark.parametrize("dim", [3, 64, 100])
def test_other_candidates_and_queries_change_no_score(dim):
    torch.manual_seed(dim)
    queries, candidates = torch.randn(70, dim), torch.randn(5000, dim)
    whole = all_scores(queries, candidates)
    assert torch.equal(all_scores(queries[41:42], candidates[2100:2103]), whole[41:42, 2100:2103])


def test_scores_do_not_change_under_autocast():
    torch.manual_seed(0)
    queries, candidates = torch.randn(5, 16), torch.randn(100, 16)
    expected = all_scores(queries, candidates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(all_scores(queries, candidates), expected)


@pytest.mark.parametrize("seed", range(10))
def test_cells_find_every_pair_once(monkeypatch, seed):
    monkeypatch.setattr(score_blocks, "CPU_SHAPE", (32, 320))
    rng = np.random.default_rng(seed)
    num_queries, num_candidates = int(rng.integers(1, 70)), int(rng.integers(1, 2500))
    lists = [rng.integers(num_candidates, size=rng.integers(0, 9)).tolist() for _ in range(num_queries)]
    cells, found = BlockCells(Jagged.from_lists(lists), num_candidates, 320), []
    for chunk in range(-(-num_queries // 32)):
        for block in range(-(-num_candidates // 320)):
            rows, columns = cells.of(chunk, block)
            found += zip((rows + chunk * 32).tolist(), (columns + block * 320).tolist(), strict=True)
    assert sorted(found) == sorted((row, value) for row, values in enumerate(lists) for value in values)


def test_what_fills_up_the_last_block_is_never_returned():
    scores = torch.zeros(32, 64)
    BlockFilter(70, 64, None, None, None).apply(scores, 0, 1)
    assert torch.equal(scores == 0, torch.arange(64).expand(32, 64) < 6)
