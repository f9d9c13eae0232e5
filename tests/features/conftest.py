"""One table with a column for every kind of feature, and a space that uses them all."""

import numpy as np
import polars as pl
import pytest

import retrank as rr

F = rr.features


def make_space():
    return rr.FeatureSpace(
        {
            "user": F.Categorical(),
            "flag": F.Categorical(nulls="unknown"),
            "film/title": F.Categorical(min_count=2, max_size=40, column="film"),
            "hashed": F.Hashed(20, column="film"),
            "tags": F.CategoricalList(),
            "words": F.Text(max_tokens=30, max_length=3),
            "price": F.Log(),
            "scaled": F.Rescaled(2.0, column="price"),
            "normal": F.Normalized(column="price", fill=0.0),
            "bins": F.Discretized(5, column="price"),
            "given": F.Bucketized([1.0, 2.0], column="price"),
            "hour": F.TimestampPart("hour", column="time"),
            "vector": F.Passthrough(),
            "label": F.Passthrough(),
        },
        crosses=[F.Cross("user", "bins", bins=50), F.Cross("hour", "hashed", "flag", bins=9, name="three")],
    )


@pytest.fixture
def space():
    return make_space()


@pytest.fixture(scope="session")
def table():
    rng = np.random.default_rng(1)
    size = 400
    return pl.DataFrame(
        {
            "user": rng.integers(-20, 20, size),
            "flag": [None if n % 7 == 0 else bool(n % 2) for n in range(size)],
            "film": [f"film {n}" for n in rng.zipf(1.5, size) % 90],
            "tags": [[f"t{t}" for t in rng.integers(0, 9, n % 4)] for n in range(size)],
            "words": [f"The film no. {n % 50}, part {n % 3}!" for n in range(size)],
            "price": rng.exponential(2.0, size),
            "time": rng.integers(0, 10**9, size),
            "vector": rng.normal(size=(size, 3)).tolist(),
            "label": rng.integers(0, 2, size),
        }
    )


def same(first, second):
    """Whether two batches hold exactly the same columns."""
    assert first.names == second.names
    for name, column in first.items():
        other = second[name]
        if isinstance(column, rr.Jagged):
            assert column.to_lists() == other.to_lists(), name
        else:
            assert column.dtype == other.dtype, name
            assert column.shape == other.shape, name
            assert column.tolist() == other.tolist(), name
    return True
