"""Numbers that leave float32 are refused with their row; everything else is what NumPy makes of it."""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError

F = rr.features
FLOATS = {"rescaled": F.Rescaled(), "normalized": F.Normalized(), "passthrough": F.Passthrough()}
BOUNDED = {"log": F.Log(), "bucketized": F.Bucketized([1.0, 1e300]), "discretized": F.Discretized(3)}
BEYOND = [1e39, -1e39, 1e200, 1e308, -1e308, 3.5e38]


def fit(kind, column):
    return rr.FeatureSpace({"x": kind}).fit(pl.DataFrame({"x": column}))


def transform(space, column):
    return space.transform(pl.DataFrame({"x": column}))["x"]


@pytest.mark.parametrize("number", BEYOND)
@pytest.mark.parametrize("kind", FLOATS.values(), ids=FLOATS)
def test_what_float32_cannot_hold_is_refused_with_its_row(kind, number):
    words = r"column 'x', row 2: expected a number .*float32.*, got"
    with pytest.raises(DataError, match=words):
        fit(kind, [1.0, 2.0, number, 4.0])
    with pytest.raises(DataError, match=words):
        transform(fit(kind, [1.0, 2.0]), [1.0, 2.0, number])


@pytest.mark.parametrize("number", [1e39, 1e308])
@pytest.mark.parametrize("kind", BOUNDED.values(), ids=BOUNDED)
def test_kinds_whose_results_are_small_take_every_number(kind, number):
    space = fit(kind, [0.0, 1.0, number, 1e20])
    result = transform(space, [0.0, 1.0, number, 1e20])
    assert result.dtype in (torch.float32, torch.int64)
    assert bool(result.isfinite().all())
    if isinstance(kind, F.Log):
        np.testing.assert_allclose(result, np.log1p([0.0, 1.0, number, 1e20]), rtol=1e-6)
    else:
        order = result[torch.tensor([0, 1, 3, 2])]
        assert (order.diff() >= 0).all()


def test_what_scale_and_spread_make_too_large_is_refused_with_both_numbers():
    with pytest.raises(DataError, match=r"row 1: .*got 1e\+20, which becomes 1e\+40"):
        fit(F.Rescaled(1e20), [1.0, 1e20])
    with pytest.raises(DataError, match=r"row 0: .*which becomes inf"):
        fit(F.Rescaled(1e300), [1e30])
    with pytest.raises(DataError, match=r"row 1: .*got 3e\+38, which becomes"):
        transform(fit(F.Normalized(), [1e-3, 2e-3]), [1e-3, 3e38])
    assert transform(fit(F.Rescaled(1e-30), [1e39]), [1e39]).tolist() == [np.float32(1e9)]


def test_a_fill_is_held_to_the_same_limits():
    with pytest.raises(ConfigError, match="fill=1e"):
        F.Passthrough(fill=1e39)
    with pytest.raises(ConfigError, match="fill="):
        F.Rescaled(fill=10**400)
    with pytest.raises(DataError, match=r"row 1: .*float32"):
        fit(F.Rescaled(fill=1e39), [1.0, None])
    with pytest.raises(DataError, match="row 2"):
        fit(F.Normalized(fill=0.0), [None, 1.0, 1e39])
    with pytest.raises(DataError, match="row 0"):
        transform(fit(F.Normalized(fill=1e39), [1.0, 2.0]), pl.Series([None], dtype=pl.Float64))


def test_tiny_numbers_become_0():
    for kind in (F.Rescaled(), F.Passthrough()):
        assert transform(fit(kind, [1.0]), [1e-300, -1e-46, 5e-324]).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("numbers", [[1e-200, 2e-200, 3e-200], [0.0, 5e-324], [1e-155, 0.0]])
def test_a_variance_that_underflows_is_refused_in_one_piece_and_in_many(numbers):
    with pytest.raises(DataError, match=r"feature 'x', column 'x': expected numbers that are equal, or differ by more"):
        fit(F.Normalized(), numbers)
    space = rr.FeatureSpace({"x": F.Normalized()})
    table = pl.DataFrame({"x": numbers})
    parts = [space.summarize(table[row : row + 1]) for row in range(len(numbers))]
    with pytest.raises(DataError, match="differ by more than"):
        space.fit_summaries(parts)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.integers(-140, 38))
def test_normalized_numbers_are_numpys_at_every_size(numbers, exponent):
    if (deviation := np.std(numbers)) < 1e-6:
        return
    column = np.array(numbers) * 10.0**exponent
    result = transform(fit(F.Normalized(), column), column)
    np.testing.assert_allclose(result, (np.array(numbers) - np.mean(numbers)) / deviation, rtol=1e-5, atol=1e-5)


NUMERIC = {
    "booleans": pl.Series([True, False]),
    "uint64": pl.Series([2**64 - 1, 1], dtype=pl.UInt64),
    "int64 beyond 2**53": pl.Series([2**53 + 1, -(2**62)]),
    "decimals": pl.Series([Decimal("1.25"), Decimal("-7.5")]),
    "float32": pl.Series([1.5, -2.5], dtype=pl.Float32),
}


@pytest.mark.parametrize("column", NUMERIC.values(), ids=NUMERIC)
def test_every_numeric_type_is_read_as_float64(column):
    numbers = np.array([float(value) for value in column])
    np.testing.assert_array_equal(transform(fit(F.Passthrough(), column), column), numbers.astype(np.float32))
    expected = ((numbers - numbers.mean()) / numbers.std()).astype(np.float32)
    np.testing.assert_allclose(transform(fit(F.Normalized(), column), column), expected, rtol=1e-6)
    assert transform(fit(F.Bucketized([1.0]), column), column).tolist() == [2 + int(n >= 1) for n in numbers]


KINDS = FLOATS | BOUNDED
OTHERS = {
    "date": ([date(2024, 1, 1)], "TimestampPart"),
    "datetime": ([datetime(2024, 1, 1)], "TimestampPart"),
    "time": ([time(12)], "TimestampPart"),
    "duration": ([timedelta(days=1)], "total_seconds"),
    "text": (["1"], "cast"),
    "bytes": ([b"1"], "cast"),
    "lists": ([[1.0]], "Passthrough"),
    "structs": ([{"a": 1}], "(cast|unnest)"),
}


@pytest.mark.parametrize(("column", "remedy"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_no_number_is_refused_at_fit_and_at_transform(kind, column, remedy):
    if isinstance(kind, F.Passthrough) and isinstance(column[0], list):
        assert transform(fit(kind, column), column).tolist() == [1.0]
        return
    words = f"column 'x'.*: expected (numbers|scalars).*, got .*{remedy}"
    with pytest.raises(DataError, match=words):
        fit(kind, column)
    with pytest.raises(DataError, match=words):
        transform(fit(kind, [1.0, 2.0]), column)


def test_lists_of_what_is_no_number_are_refused():
    for column in ([["1"]], [[date(2024, 1, 1)]], [[[1.0]]]):
        with pytest.raises(DataError, match="column 'x'.*: expected"):
            fit(F.Passthrough(), column)


def test_an_infinite_number_is_not_mistaken_for_a_large_one():
    with pytest.raises(DataError, match=r"row 0: expected a finite number, got inf"):
        fit(F.Passthrough(), [math.inf])
