import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.index import blocks as blocks_module
from retrank.index.blocks import BlockCells, ScoreBlocks


def all_scores(queries, candidates):
    blocks = ScoreBlocks(candidates)
    rows = [
        torch.cat([blocks.scores(chunk, block) for block in range(blocks.num_blocks)], dim=1)
        for chunk in blocks.chunks(queries)
    ]
    padded = torch.cat(rows)
    assert (padded[:, len(candidates) :] == -torch.inf).all()
    return padded[: len(queries), : len(candidates)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 2500), st.integers(1, 40), st.integers(0, 1000))
def test_scores_are_the_dot_products(num_queries, num_candidates, dim, seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(num_queries, dim)).astype(np.float32)
    candidates = rng.normal(size=(num_candidates, dim)).astype(np.float32)
    expected = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    got = all_scores(torch.from_numpy(queries), torch.from_numpy(candidates))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def many_blocks(monkeypatch):
    monkeypatch.setattr(blocks_module, "CPU_SHAPE", (32, 320))


@pytest.mark.parametrize("dim", [1, 3, 8, 17, 32, 50, 64, 100, 128])
@pytest.mark.parametrize("num_candidates", [1, 63, 64, 65, 1023, 1024, 1025, 1682, 8193, 20_001])
def test_equal_vectors_have_equal_scores_wherever_they_stand(dim, num_candidates):
    torch.manual_seed(dim * num_candidates)
    query, candidate = torch.randn(dim), torch.randn(dim)
    scores = all_scores(query.expand(70, dim), candidate.expand(num_candidates, dim))
    assert (scores == scores[0, 0]).all()


def test_scores_do_not_change_under_autocast():
    torch.manual_seed(0)
    queries, candidates = torch.randn(5, 16), torch.randn(100, 16)
    expected = all_scores(queries, candidates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(all_scores(queries, candidates), expected)


def test_blocks_waste_little_and_none_is_empty():
    for num_candidates in [1, 64, 1025, 8193, 100_001]:
        blocks = ScoreBlocks(torch.zeros(num_candidates, 1))
        assert (blocks.num_blocks - 1) * blocks.width < num_candidates <= blocks.num_blocks * blocks.width
        assert blocks.width % 64 == 0


def test_half_precision_is_widened_and_double_is_refused():
    assert ScoreBlocks(torch.ones(2, 2, dtype=torch.bfloat16)).candidates.dtype == torch.float32
    with pytest.raises(ShapeError, match="float64"):
        ScoreBlocks(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="queries"):
        ScoreBlocks(torch.ones(2, 2)).chunks(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="at least one candidate"):
        ScoreBlocks(torch.ones(0, 2))


def test_unsafe_says_which_query_may_overflow():
    blocks = ScoreBlocks(torch.tensor([[1.0, 1e20]]))
    queries = torch.tensor([[1.0, 1.0], [torch.nan, 0.0], [0.0, torch.inf], [1e20, 1e20], [-1e17, 0.0]])
    assert blocks.unsafe(queries).tolist() == [False, True, True, True, False]
    assert ScoreBlocks(torch.tensor([[torch.nan]])).unsafe(torch.zeros(2, 1)).all()


@pytest.mark.parametrize("seed", range(25))
def test_cells_find_every_pair_once(many_blocks, seed):
    rng = np.random.default_rng(seed)
    num_queries, num_candidates = int(rng.integers(1, 70)), int(rng.integers(1, 2500))
    lists = [rng.integers(num_candidates, size=rng.integers(0, 9)).tolist() for _ in range(num_queries)]
    blocks = ScoreBlocks(torch.zeros(num_candidates, 1))
    cells = BlockCells(Jagged.from_lists(lists), blocks.grid, num_queries, "exclude")
    found = []
    for chunk in range(-(-num_queries // blocks.chunk_rows)):
        for block in range(blocks.num_blocks):
            rows, columns = cells.of(chunk, block)
            found += zip(
                (rows + chunk * blocks.chunk_rows).tolist(), (columns + block * blocks.width).tolist(), strict=True
            )
    assert sorted(found) == sorted((row, value) for row, values in enumerate(lists) for value in values)


def test_cells_name_the_row_that_is_no_candidate():
    blocks = ScoreBlocks(torch.zeros(4, 1))
    for value in (-1, 4):
        with pytest.raises(DataError, match=f"exclude, row 2.*got {value}"):
            BlockCells(Jagged.from_lists([[0], [], [3, value]]), blocks.grid, 3, "exclude")
    with pytest.raises(ShapeError, match="allow"):
        BlockCells(Jagged.from_lists([[0]]), blocks.grid, 3, "allow")
    with pytest.raises(ShapeError, match="int64"):
        BlockCells(Jagged.from_lists([[0.0]], dtype=torch.float32), blocks.grid, 1, "allow")
