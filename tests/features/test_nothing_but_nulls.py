"""A column without any value has no type of its own: it is what nulls of the declared kind are."""

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

TABLE = pl.DataFrame(
    {
        "key": ["a", "b", "a"],
        "flag": [True, False, True],
        "code": [7, 8, 7],
        "number": [1.0, 2.0, 4.0],
        "tags": [["x"], ["y", "x"], []],
        "codes": [[1], [2, 1], []],
        "epoch": [0, 3600, 7200],
        "when": pl.Series([0, 3_600_000_000, 7_200_000_000]).cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo"),
        "text": ["a b", "c", "a"],
    }
)
F = rr.features
TAKING = {
    "key": F.Categorical(nulls="unknown"),
    "flag": F.Categorical(nulls="unknown"),
    "code": F.Categorical(nulls="unknown"),
    "hashed": F.Hashed(4, nulls="unknown", column="code"),
    "number": F.Normalized(fill=0.0),
    "rescaled": F.Rescaled(2.0, fill=3.0, column="number"),
    "log": F.Log(fill=0.0, column="number"),
    "bins": F.Discretized(2, fill=0.0, column="number"),
    "buckets": F.Bucketized([1.5], fill=0.0, column="number"),
    "raw": F.Passthrough(fill=5.0, column="number"),
    "tags": F.CategoricalList(nulls="unknown"),
    "codes": F.CategoricalList(nulls="unknown"),
    "recent": F.Recent("code", nulls="unknown", column="codes"),
    "epoch": F.TimestampPart("hour", nulls="unknown"),
    "when": F.TimestampPart("hour", nulls="unknown"),
    "text": F.Text(nulls="unknown"),
}
SPACE = rr.FeatureSpace(TAKING).fit(TABLE)
STRICT = {name: type(kind)(**{k: v for k, v in kind.config.items() if k not in ("nulls", "fill")})
          for name, kind in TAKING.items()}  # fmt: skip
STRICT_SPACE = rr.FeatureSpace(STRICT).fit(TABLE)
DTYPES = [pl.Null, pl.String, pl.Float64, pl.Int64, pl.UInt8, pl.Boolean, pl.Date, pl.Datetime("ms", "UTC"),
          pl.List(pl.String), pl.List(pl.Float32), pl.Categorical]  # fmt: skip


def nothing(name, num_rows, dtype):
    column = SPACE.columns([name])[0]
    return pl.DataFrame({column: pl.Series([None] * num_rows, dtype=dtype)})


@given(name=st.sampled_from(list(TAKING)), num_rows=st.integers(1, 3), dtype=st.sampled_from(DTYPES))
def test_its_type_does_not_matter(name, num_rows, dtype):
    own = TABLE.schema[SPACE.columns([name])[0]]
    expected = SPACE.transform(nothing(name, num_rows, own), [name])[name]
    got = SPACE.transform(nothing(name, num_rows, dtype), [name])[name]
    if isinstance(expected, rr.Jagged):
        assert got.to_lists() == expected.to_lists()
    else:
        assert torch.equal(got, expected)


@given(name=st.sampled_from(list(STRICT)), dtype=st.sampled_from(DTYPES))
def test_kinds_that_take_no_nulls_say_so(name, dtype):
    with pytest.raises(rr.errors.DataError, match=r"row 0.*got null") as caught:
        STRICT_SPACE.transform(nothing(name, 2, dtype), [name])
    assert caught.value.row == 0


@pytest.mark.parametrize("name", TAKING)
def test_a_pandas_column_of_objects(name):
    pandas = pytest.importorskip("pandas")
    column = SPACE.columns([name])[0]
    made = SPACE.transform(pandas.DataFrame({column: [None, None]}, dtype=object), [name])[name]
    assert len(made) == 2


def test_a_value_among_nulls_still_has_a_type():
    for name in ("number", "tags", "code", "epoch"):
        with pytest.raises(rr.errors.DataError, match=f"column '{name}'.*String"):
            SPACE.transform(pl.DataFrame({name: [None, "a"]}), [name])


def test_nothing_to_learn_from_but_a_filled_number():
    table = pl.DataFrame({"number": pl.Series([None, None], dtype=pl.String)})
    space = rr.FeatureSpace({"number": F.Rescaled(fill=2.0)}).fit(table)
    assert space.transform(table)["number"].tolist() == [2.0, 2.0]
    for kind in (F.Categorical(nulls="unknown"), F.CategoricalList(nulls="unknown"), F.Normalized(fill=0.0)):
        with pytest.raises(rr.errors.DataError, match="column 'number'"):
            rr.FeatureSpace({"number": kind}).fit(table)


def test_times_without_any_teach_nothing():
    space = rr.FeatureSpace({"when": F.TimestampPart("hour", nulls="unknown")})
    space.fit(pl.DataFrame({"when": pl.Series([None], dtype=pl.Float64)}))
    assert space.transform(TABLE.select("when"))["when"].tolist() == [2, 3, 4]
