"""Candidates in blocks: what goes in comes out, and a change makes what would have been prepared at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.core.native import without_kernels
from retrank.ops.prepared_candidates import prepare_candidates

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")
SIZES = st.sampled_from([1, 2, 31, 32, 33, 64, 100, 2047, 2048, 2049])


def same(one, other):
    assert torch.equal(one.blocks, other.blocks)
    assert torch.equal(one.largest, other.largest)
    assert (one.num_candidates, one.dim, one.device) == (other.num_candidates, other.dim, other.device)


@settings(max_examples=20)
@given(SIZES, st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_what_goes_in_comes_out(num_candidates, dim, columns_first, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(num_candidates, dim)).astype(np.float32)
    given = torch.from_numpy(np.asfortranarray(numbers) if columns_first else numbers)
    prepared = prepare_candidates(given)
    assert np.array_equal(prepared.candidates.numpy(), numbers)
    rows = rng.integers(num_candidates, size=7)
    assert np.array_equal(prepared.take(torch.from_numpy(rows)).numpy(), numbers[rows])
    assert float(prepared.largest) == np.abs(numbers).max()
    order = rng.permutation(num_candidates)
    assert np.array_equal(prepare_candidates(given, torch.from_numpy(order)).candidates.numpy(), numbers[order])


@settings(max_examples=20)
@given(SIZES, SIZES, st.integers(1, 5), st.integers(0, 10**6))
def test_a_change_is_what_would_have_been_prepared_at_once(num_candidates, num_added, dim, seed):
    torch.manual_seed(seed)
    candidates, added = torch.randn(num_candidates, dim), torch.randn(num_added, dim)
    prepared = prepare_candidates(candidates)
    same(prepared.with_added(added), prepare_candidates(torch.cat([candidates, added])))
    some = torch.randperm(num_candidates)[: num_candidates // 2 + 1]
    same(prepared.only(some), prepare_candidates(candidates[some]))
    changed = candidates.clone()
    changed[some] = torch.zeros(len(some), dim)
    same(prepared.with_updated(some, changed[some]), prepare_candidates(changed))
    same(prepared, prepare_candidates(candidates))


def test_a_layout_lasts_where_the_kernels_come_and_go():
    candidates = torch.randn(100, 3)
    prepared = prepare_candidates(candidates)
    with without_kernels():
        same(prepared.with_added(candidates[:1]).only(torch.arange(100)), prepared)
        assert torch.equal(prepared.candidates, candidates)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_show_in_the_largest(bad):
    candidates = torch.zeros(40, 2)
    candidates[33, 1] = bad
    assert not prepare_candidates(candidates).largest.isfinite()


def test_half_precision_is_widened_and_double_is_refused():
    assert prepare_candidates(torch.ones(2, 2, dtype=torch.bfloat16)).candidates.dtype == torch.float32
    with pytest.raises(ShapeError, match="float64"):
        prepare_candidates(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="at least one candidate"):
        prepare_candidates(torch.ones(0, 2))
    with pytest.raises(ShapeError, match="shape"):
        prepare_candidates(torch.ones(2, 0))


@pytest.mark.parametrize("order", [[0, 0, 2], [0, 1, 3], [0, 1, -1], [10**12, 1, 2]])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(DataError, match="permutation"):
        prepare_candidates(torch.ones(3, 2), torch.tensor(order))


@pytest.mark.parametrize("order", [torch.arange(2), torch.arange(3, dtype=torch.int32), torch.arange(6)[::2]])
def test_an_order_of_another_form_is_refused(order):
    with pytest.raises(ShapeError, match="order"):
        prepare_candidates(torch.ones(3, 2), order)
