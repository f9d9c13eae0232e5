import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.ops.symmetric_inverse import invert_strips


def strips_of(matrix, rows):
    starts = range(0, len(matrix), rows)
    return [torch.from_numpy(matrix[start : start + rows, : start + rows].copy()) for start in starts]


@settings(max_examples=60)
@given(size=st.integers(1, 20), rows=st.integers(1, 21), seed=st.integers(0, 99))
def test_the_inverse_of_any_size_in_strips_of_any_height(size, rows, seed):
    draw = np.random.default_rng(seed).normal(size=(size, size))
    matrix = draw @ draw.T + np.eye(size)
    strips, done = strips_of(matrix, rows), []
    invert_strips(strips, done.append)
    expected = strips_of(-np.linalg.inv(matrix), rows)
    for strip, wanted in zip(strips, expected, strict=True):
        np.testing.assert_allclose(strip, wanted, atol=1e-9)
    assert sum(done) == size


def test_what_is_above_the_squares_is_not_there_to_be_read():
    matrix = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    strips = strips_of(matrix, 2)
    assert [tuple(strip.shape) for strip in strips] == [(2, 2), (1, 3)]
    invert_strips(strips)
    np.testing.assert_allclose(strips[1][0], -np.linalg.inv(matrix)[2])


def test_other_matrices_are_refused():
    with pytest.raises(DataError, match="row 1: expected a positive definite"):
        invert_strips(strips_of(np.array([[1.0, 2.0], [2.0, 1.0]]), 2))
    with pytest.raises(DataError, match="row 1"):
        invert_strips(strips_of(np.array([[1.0, 2.0], [2.0, 1.0]]), 1))
    with pytest.raises(ShapeError, match="strip 0"):
        invert_strips([torch.eye(2)])
    with pytest.raises(ShapeError, match="strip 1"):
        invert_strips([torch.eye(2).double(), torch.zeros(2, 3).double()])
    with pytest.raises(ShapeError, match="none"):
        invert_strips([])
