import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError

F = rr.features
NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def transform(kind, fitted, given=None):
    space = rr.FeatureSpace({"x": kind}).fit(pl.DataFrame({"x": fitted}))
    return space.transform(pl.DataFrame({"x": fitted if given is None else given}))["x"]


@given(NUMBERS)
def test_normalized_has_mean_0_and_deviation_1(numbers):
    deviation = np.std(numbers)
    if deviation > 1e-6:
        result = transform(F.Normalized(), numbers)
        assert result.dtype == torch.float32
        np.testing.assert_allclose(result, (np.array(numbers) - np.mean(numbers)) / deviation, rtol=1e-4, atol=1e-4)


def test_a_constant_column_is_normalized_to_0():
    assert transform(F.Normalized(), [0.1] * 7).tolist() == [0.0] * 7
    assert transform(F.Normalized(), [3], [5]).tolist() == [2.0]


def test_timestamps_are_normalized_in_float64():
    seconds = [1_700_000_000 + n for n in range(5)]
    np.testing.assert_allclose(transform(F.Normalized(), seconds), (np.arange(5) - 2) / math.sqrt(2), rtol=1e-6)


def test_rescaled_log_and_passthrough():
    assert transform(F.Rescaled(0.5, 1.0), [0, 4]).tolist() == [1.0, 3.0]
    np.testing.assert_allclose(transform(F.Log(), [0.0, 1.0, 9.5]), [math.log(1 + x) for x in (0, 1, 9.5)], rtol=1e-6)
    assert transform(F.Passthrough(), [True, False]).tolist() == [1.0, 0.0]
    integers = transform(F.Passthrough(), [3, 5])
    assert integers.dtype == torch.float32
    assert integers.tolist() == [3.0, 5.0]


KINDS = [F.Rescaled(), F.Normalized(), F.Log(), F.Passthrough(), F.Discretized(2), F.Bucketized([1.0])]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize(("bad", "got"), [(None, "null"), (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_what_is_no_number_is_refused_with_its_row(kind, bad, got):
    with pytest.raises(DataError, match=rf"column 'x', row 2: expected a finite number, got {got}"):
        transform(kind, [1.0, 2.0, bad])
    with pytest.raises(DataError, match=rf"column 'x', row 0: expected a finite number, got {got}"):
        transform(kind, [1.0, 2.0], pl.Series([bad], dtype=pl.Float64))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_other_types_are_refused(kind):
    with pytest.raises(DataError, match=r"column 'x': expected numbers, got String"):
        transform(kind, ["1"])
    with pytest.raises(DataError, match="TimestampPart"):
        transform(kind, pl.Series([0]).cast(pl.Date))


def test_fill_stands_for_what_is_missing_and_is_not_counted():
    column = [1.0, None, 3.0, math.nan, math.inf]
    assert transform(F.Normalized(fill=2.0), column).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0]
    assert transform(F.Rescaled(2.0, fill=5.0), column).tolist() == [2.0, 10.0, 6.0, 10.0, 10.0]
    assert transform(F.Passthrough(fill=0.0), column).tolist() == [1.0, 0.0, 3.0, 0.0, 0.0]
    assert transform(F.Log(fill=0.0), column)[1].item() == 0.0
    assert transform(F.Discretized(2, fill=9.0), [1.0, 2.0, 3.0, 4.0, None]).tolist() == [2, 3, 3, 3, 3]
    assert transform(F.Bucketized([2.0], fill=0.0), column).tolist() == [2, 2, 3, 2, 2]
    assert transform(F.Passthrough(fill=7.0), [1.0], pl.Series([None])).tolist() == [7.0]
    for kind in (F.Normalized(fill=0.0), F.Discretized(2, fill=0.0)):
        with pytest.raises(DataError, match=r"feature 'x', column 'x': expected at least one number"):
            transform(kind, pl.Series([None, None], dtype=pl.Float64))


def test_log_refuses_negative_numbers():
    with pytest.raises(DataError, match=r"column 'x', row 1: expected a number >= 0, got -0.5"):
        transform(F.Log(), [1.0, -0.5])
    with pytest.raises(DataError, match=r"column 'x', row 0"):
        transform(F.Log(), [1.0], [-1.0])


@given(NUMBERS, st.integers(2, 8))
def test_discretized_bins_hold_what_their_boundaries_say(numbers, bins):
    space = rr.FeatureSpace({"x": F.Discretized(bins)}).fit(pl.DataFrame({"x": numbers}))
    boundaries = space["x"].boundaries
    ids = space.transform(pl.DataFrame({"x": numbers}))["x"].tolist()
    assert ids == [2 + sum(boundary <= number for boundary in boundaries) for number in numbers]
    assert len(boundaries) == min(bins, len(numbers)) - 1
    assert space.schema["x"].num_ids == bins + 2 > max(ids)


def test_bins_hold_equally_many_numbers():
    numbers = np.random.default_rng(0).exponential(size=10_000)
    counts = torch.bincount(transform(F.Discretized(10), numbers))
    assert counts.tolist()[:2] == [0, 0]
    assert (counts[2:] - 1000).abs().max() <= 1


def test_bucketized_upper_bin_owns_its_boundary():
    assert transform(F.Bucketized([0, 10]), [-1.0, 0.0, 9.99, 10.0, 11.0]).tolist() == [2, 3, 3, 4, 4]


def test_vectors_pass_through():
    table = pl.DataFrame({"x": [[1.0, 2.0], [3.0, 4.0]]})
    space = rr.FeatureSpace({"x": F.Passthrough()}).fit(table)
    assert space.schema["x"].width == 2
    assert space.transform(table)["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    arrays = table.with_columns(pl.col("x").cast(pl.Array(pl.Float32, 2)))
    assert space.transform(arrays)["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert space.transform(table[:0])["x"].shape == (0, 2)
    assert transform(F.Passthrough(fill=0.0), [[1.0, None], [math.nan, 4.0]]).tolist() == [[1.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([[1.0, 2.0], [3.0]], r"row 1: expected equally many numbers in every list, got 1 beside 2"),
        ([[1.0], None], "row 1: expected equally many numbers in every list, got null"),
        ([[], []], "row 0: expected equally many"),
        ([[1.0, 2.0], [3.0, None]], "row 1: expected a finite number, got null"),
    ],
)
def test_uneven_vectors_are_refused(column, words):
    with pytest.raises(DataError, match=f"column 'x', {words}"):
        transform(F.Passthrough(), pl.Series(column, dtype=pl.List(pl.Float64)))


def test_a_vector_of_another_width_is_refused():
    with pytest.raises(DataError, match=r"column 'x'.*2 numbers per row, as it was fitted on, got 3"):
        transform(F.Passthrough(), [[1.0, 2.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match=r"column 'x'.*2 numbers per row, as it was fitted on, got 1"):
        transform(F.Passthrough(), [[1.0, 2.0]], [1.0])


@pytest.mark.parametrize(
    "build",
    [
        lambda: F.Rescaled(math.inf),
        lambda: F.Rescaled(np.float32(1.0)),
        lambda: F.Normalized(fill=math.nan),
        lambda: F.Log(fill=-1.0),
        lambda: F.Discretized(1),
        lambda: F.Discretized(2.0),
        lambda: F.Bucketized([]),
        lambda: F.Bucketized([2, 1]),
        lambda: F.Bucketized([1, 1]),
        lambda: F.Bucketized([1, math.inf]),
        lambda: F.Bucketized(np.array([1.0, 2.0])),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(ConfigError):
        build()
