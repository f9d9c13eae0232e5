import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrank.datasets.alias_table import AliasTable

WEIGHTS = st.lists(st.floats(0, 1e6).filter(lambda w: w == 0 or w > 1e-6), min_size=1, max_size=60).filter(any)


@given(weights=WEIGHTS)
@example(weights=[1.0] * 10)
@example(weights=[0.1] * 7)
@example(weights=[0.0, 3.0])
@example(weights=[1.0, 2.0, 3.0])
@example(weights=[2.0, 1.0, 1.0, 0.0])
@example(weights=[1.0, 1e-6, 1e6])
def test_the_probabilities_are_those_given(weights):
    weights = np.array(weights)
    assert AliasTable(weights).probabilities() == pytest.approx(weights / weights.sum(), abs=1e-12)


@given(size=st.integers(1, 3000), exponent=st.floats(0, 3), seed=st.integers(0, 99))
def test_power_laws_in_any_order(size, exponent, seed):
    weights = np.random.default_rng(seed).permutation(np.arange(1.0, size + 1) ** -exponent)
    assert AliasTable(weights).probabilities() == pytest.approx(weights / weights.sum(), rel=1e-6, abs=1e-12)


def test_what_is_drawn_has_them():
    weights = np.array([5.0, 0.0, 1.0, 0.5, 3.5])
    drawn = AliasTable(weights).draw((1000, 100), np.random.default_rng(0))
    assert drawn.shape == (1000, 100)
    assert drawn.dtype == np.int32
    assert np.bincount(drawn.ravel(), minlength=5) / 100_000 == pytest.approx(weights / 10, abs=0.005)
    assert not (drawn == 1).any()


def test_draws_are_independent_of_each_other():
    first, second = AliasTable(np.array([1.0, 2.0, 3.0])).draw((2, 60_000), np.random.default_rng(1))
    pairs = np.bincount(3 * first + second, minlength=9) / 60_000
    assert pairs == pytest.approx(np.outer([1, 2, 3], [1, 2, 3]).ravel() / 36, abs=0.01)
