"""Means of kept similarities, by the kernel and in plain torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import is_native, without_kernels
from retrank.ops.neighbor_means import NeighborBits, Neighbors, neighbor_bits, neighbor_means

NUM_IDS = 9


def similarities(seed, share, num_ids=NUM_IDS):
    g = np.random.default_rng(seed)
    dense = np.triu(g.random((num_ids, num_ids)) * (g.random((num_ids, num_ids)) < share), 1)
    dense = (dense + dense.T).astype(np.float32)
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.bincount(rows, minlength=num_ids).cumsum()])
    parts = (torch.from_numpy(starts), torch.from_numpy(columns).int(), torch.from_numpy(dense[rows, columns]))
    return dense, Neighbors(*parts)


def oracle(dense, recent, ids, windows):
    out = np.zeros((len(ids), len(windows)))
    for pair, (row, candidate) in enumerate(zip(recent, ids, strict=True)):
        for column, window in enumerate(windows):
            last = row[-window:]
            inside = [0 <= one < NUM_IDS and 0 <= candidate < NUM_IDS for one in last]
            found = [dense[one, candidate] if ok else 0.0 for one, ok in zip(last, inside, strict=True)]
            out[pair, column] = np.mean(found) if found else 0
    return out


lists = st.lists(st.lists(st.integers(-2, NUM_IDS + 30), max_size=7), max_size=6)


@given(recent=lists, seed=st.integers(0, 99), share=st.sampled_from([0.0, 0.3, 1.0]), data=st.data())
def test_they_are_the_means_of_a_dense_matrix(recent, seed, share, data):
    ids = data.draw(st.lists(st.integers(-2, NUM_IDS + 30), min_size=len(recent), max_size=len(recent)))
    dense, neighbors = similarities(seed, share)
    windows = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    arguments = (neighbors, Jagged.from_lists(recent), torch.tensor(ids, dtype=torch.int64), windows)
    expected = oracle(dense, recent, ids, windows)
    np.testing.assert_allclose(neighbor_means(*arguments), expected, atol=1e-6)
    with without_kernels():
        np.testing.assert_allclose(neighbor_means(*arguments), expected, atol=1e-6)


@pytest.mark.usefixtures("with_and_without_kernels")
def test_what_does_not_fit_is_refused():
    _, neighbors = similarities(0, 0.5)
    recent, ids = Jagged.from_lists([[1], [2]]), torch.tensor([3, 4])
    for bad in (ids[:1], ids.float(), ids[None]):
        with pytest.raises(ShapeError):
            neighbor_means(neighbors, recent, bad, [1])
    recent.offsets[1] = 10**6
    with pytest.raises(ShapeError):
        neighbor_means(neighbors, recent, ids, [1])


@pytest.mark.usefixtures("with_and_without_kernels")
def test_neighbors_that_lead_astray_are_refused():
    _, neighbors = similarities(0, 0.5)
    recent, ids = Jagged.from_lists([[1], [2]]), torch.tensor([3, 4])
    for starts in (neighbors.starts + 1, neighbors.starts.flip(0), neighbors.starts.int()):
        with pytest.raises((DataError, ShapeError)):
            neighbor_means(neighbors._replace(starts=starts), recent, ids, [1])
    for other in ({"ids": neighbors.ids.long()}, {"similarities": neighbors.similarities[1:]}):
        with pytest.raises(ShapeError):
            neighbor_means(neighbors._replace(**other), recent, ids, [1])


@pytest.mark.usefixtures("with_and_without_kernels")
@given(
    num_ids=st.sampled_from([1, 5, 63, 64, 65, 200]),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    data=st.data(),
)
def test_with_bits_they_are_the_same_to_the_bit(num_ids, seed, share, data):
    _, neighbors = similarities(seed, share, num_ids)
    bits = neighbor_bits(neighbors)
    assert bits is not None or share < 0.5 or num_ids < 2
    some = st.integers(-2, num_ids + 70)
    recent = Jagged.from_lists(data.draw(st.lists(st.lists(some, max_size=9), min_size=1, max_size=4)))
    ids = data.draw(st.lists(some, max_size=20))
    lists = torch.arange(len(ids)) % len(recent)
    arguments = (neighbors, recent, torch.tensor(ids, dtype=torch.int64), [1, 3, 2**31 - 1], lists)
    assert torch.equal(neighbor_means(*arguments, bits), neighbor_means(*arguments))


def test_bits_are_not_kept_where_they_are_many():
    num_ids = 10_000
    starts = torch.arange(num_ids + 1)
    neighbors = Neighbors(starts, torch.arange(num_ids).int(), torch.ones(num_ids))
    assert neighbor_bits(neighbors) is None
    few = Neighbors(starts[:61], torch.arange(60).int(), torch.ones(60))
    assert neighbor_bits(few).bits.shape == (60, 1)


@pytest.mark.usefixtures("with_and_without_kernels")
def test_bits_of_what_are_no_neighbors_are_refused():
    _, neighbors = similarities(0, 1.0)
    for ids in (neighbors.ids.flip(0), neighbors.ids + 1, neighbors.ids - 1, torch.zeros_like(neighbors.ids)):
        with pytest.raises(DataError):
            neighbor_bits(neighbors._replace(ids=ids))


@pytest.mark.usefixtures("with_and_without_kernels")
def test_bits_that_lead_astray_are_refused():
    if not is_native():
        pytest.skip("plain torch does not read them")
    _, neighbors = similarities(0, 1.0)
    bits = neighbor_bits(neighbors)
    recent, ids = Jagged.from_lists([[1, 3], [2]]), torch.tensor([3, 4])
    for wrong in (bits._replace(ranks=bits.ranks + 10**6), NeighborBits(bits.bits[:, :0], bits.ranks[:, :0])):
        with pytest.raises((DataError, ShapeError)):
            neighbor_means(neighbors, recent, ids, [1], bits=wrong)
