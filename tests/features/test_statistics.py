from collections import Counter
from functools import reduce

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.errors import DataError
from retrank.features import statistics
from retrank.features.statistics import Agreement, KeyCounts, Moments, ValueCounts

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


def cut(values, seed):
    """The values in a random order, cut into parts of any size, some empty."""
    rng = np.random.default_rng(seed)
    shuffled = np.array(values)[rng.permutation(len(values))]
    return np.split(shuffled, np.sort(rng.integers(0, len(values) + 1, size=3)))


@given(st.lists(st.sampled_from("abcd"), min_size=1), st.integers(0, 99))
def test_key_counts_of_parts_are_those_of_the_whole(keys, seed):
    parts = [KeyCounts.of(pl.Series(part, dtype=pl.String)) for part in cut(keys, seed)]
    ranked = reduce(KeyCounts.merge, parts).ranked(1)
    assert dict(ranked.iter_rows()) == Counter(keys)
    assert ranked.equals(KeyCounts.of(pl.Series(keys)).ranked(1))


@given(NUMBERS, st.integers(0, 99))
def test_moments_of_parts_are_those_of_the_whole(numbers, seed):
    merged = reduce(Moments.merge, [Moments.of(part) for part in cut(numbers, seed)])
    assert merged.count == len(numbers)
    assert merged.mean == pytest.approx(np.mean(numbers), rel=1e-9, abs=1e-9)
    assert merged.variance == pytest.approx(np.var(numbers), rel=1e-9, abs=1e-6)


def test_equal_numbers_have_no_variance_at_all():
    parts = [Moments.of(np.full(count, 0.1)) for count in (3, 1, 7)]
    merged = reduce(Moments.merge, parts)
    assert (merged.mean, merged.variance) == (0.1, 0.0)


def test_a_large_offset_keeps_its_digits():
    seconds = 1.7e9 + np.arange(1000) * 1e-3
    assert Moments.of(seconds).variance == pytest.approx(np.var(np.arange(1000) * 1e-3), rel=1e-6)


@given(NUMBERS, st.integers(2, 12), st.integers(0, 99))
def test_quantiles_are_those_of_the_whole(numbers, parts, seed):
    merged = reduce(ValueCounts.merge, [ValueCounts.of(part) for part in cut(numbers, seed)])
    assert merged.bits == 52
    if len(numbers) < parts:
        assert merged.quantiles(parts).tolist() == sorted(numbers)[:-1]
        return
    shares = np.arange(1, parts) / parts
    expected = np.quantile(numbers, shares, method="interpolated_inverted_cdf")
    np.testing.assert_allclose(merged.quantiles(parts), expected, rtol=1e-9, atol=1e-6)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300), st.integers(0, 99))
def test_coarse_counts_do_not_depend_on_order_or_parts(numbers, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_MAX_VALUES", 20)
        parts = cut(numbers, seed)
        whole = ValueCounts.of(np.array(numbers))
        left = reduce(ValueCounts.merge, [ValueCounts.of(part) for part in parts])
        right = reduce(ValueCounts.merge, [ValueCounts.of(part) for part in reversed(parts)])
    for merged in (left, right):
        assert merged.bits == whole.bits
        assert merged.values.tolist() == whole.values.tolist()
        assert merged.counts.tolist() == whole.counts.tolist()
    assert whole.counts.sum() == len(numbers)


def test_many_values_are_counted_within_the_declared_error():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(1e3, 300, 300_000), rng.exponential(5, 300_000)])
    counted = ValueCounts.of(numbers)
    assert 10 <= counted.bits < 52
    assert 100_000 < len(counted.values) <= 2**18
    exact = np.quantile(numbers, np.arange(1, 50) / 50, method="interpolated_inverted_cdf")
    np.testing.assert_allclose(counted.quantiles(50), exact, rtol=2.0**-counted.bits * 1.01)


def test_both_zeros_are_one_value():
    counted = ValueCounts.of(np.array([-0.0, 0.0, -0.0]))
    assert counted.counts.tolist() == [3]
    assert not np.signbit(counted.values[0])


def test_nothing_was_counted():
    empty = ValueCounts.of(np.empty(0))
    assert empty.quantiles(4).tolist() == []
    assert empty.merge(ValueCounts.of(np.array([2.0]))).values.tolist() == [2.0]
    assert Moments.of(np.empty(0)).merge(Moments.of(np.array([2.0]))) == Moments(1, 2.0, 0.0)


def test_parts_that_disagree_are_refused():
    assert Agreement("string").merge(Agreement("string")).fact == "string"
    with pytest.raises(DataError, match="string in every part of the table, got integer"):
        Agreement("string").merge(Agreement("integer"))
    with pytest.raises(DataError, match="keys of type String in every part of the table, got Int64"):
        KeyCounts.of(pl.Series(["a"])).merge(KeyCounts.of(pl.Series([1])))
