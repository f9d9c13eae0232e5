import polars as pl
import pytest

import retrank as rr


def test_a_missing_column_names_the_table_and_the_nearest_column():
    with pytest.raises(rr.errors.DataError, match=r"train: expected a column 'user'.*did you mean 'user_id'"):
        rr.data.require_columns(pl.DataFrame({"user_id": [1]}), ["user"], "train")


def test_columns_may_be_checked_from_their_types_alone():
    rr.data.require_columns({"a": pl.Int64()}, ["a"])
    with pytest.raises(rr.errors.DataError, match="'b'"):
        rr.data.require_columns({"a": pl.Int64()}, ["b"])


@pytest.mark.parametrize(
    ("values", "row"),
    [([1, None, 2], 1), ([1.0, 2.0, float("nan"), None], 2), (["a", "b", None], 2), ([None], 0)],
)
def test_nulls_and_nans_name_column_and_first_row(values, row):
    with pytest.raises(rr.errors.DataError, match=f"column 'x', row {row} of train"):
        rr.data.require_no_nulls(pl.DataFrame({"ok": values.__len__() * [1], "x": values}), ["ok", "x"], "train")


def test_full_columns_pass():
    rr.data.require_no_nulls(pl.DataFrame({"x": [1.0, float("inf")], "y": ["", "a"]}), ["x", "y"])


def test_empty_table():
    with pytest.raises(rr.errors.DataError, match="at least one row"):
        rr.data.require_rows(pl.DataFrame({"x": []}))


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Boolean, pl.List(pl.Int64), pl.Date])
def test_keys_must_be_text_or_integers(dtype):
    with pytest.raises(rr.errors.DataError, match="column 'id' of users"):
        rr.data.require_keys(pl.DataFrame(schema={"id": dtype}), "id", "users")


@pytest.mark.parametrize("dtype", [pl.String, pl.UInt8, pl.Int64, pl.Categorical, pl.Enum(["a"])])
def test_text_and_integer_keys_pass(dtype):
    rr.data.require_keys(pl.DataFrame(schema={"id": dtype}), "id")


def test_null_key_names_the_row():
    with pytest.raises(rr.errors.DataError, match="column 'id', row 1"):
        rr.data.require_keys(pl.DataFrame({"id": ["a", None]}), "id")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), None])
def test_time_must_be_finite(bad):
    with pytest.raises(rr.errors.DataError, match="column 't', row 2"):
        rr.data.require_time(pl.DataFrame({"t": [1.0, 2.0, bad]}), "t")


def test_time_must_not_be_text():
    with pytest.raises(rr.errors.DataError, match=r"column 't'.*String"):
        rr.data.require_time(pl.DataFrame({"t": ["2020-01-01"]}), "t")


@pytest.mark.parametrize(
    "column",
    [[[[1]]], [{"a": 1}], [[{"a": 1}]]],
    ids=["list of list", "struct", "list of struct"],
)
def test_nested_columns_are_refused_by_name(column):
    table = pl.DataFrame({"genres": column})
    with pytest.raises(rr.errors.DataError, match="column 'genres'"):
        rr.data.require_flat(table, ["genres"])
    with pytest.raises(rr.errors.DataError, match="column 'genres'"):
        rr.data.frame(table, ["genres"])


def test_lists_of_scalars_pass():
    rr.data.require_flat(pl.DataFrame({"genres": [["a"], []], "x": [1, 2]}), ["genres", "x"])


def test_repeated_value_names_its_second_row():
    with pytest.raises(rr.errors.DataError, match=r"column 'id', row 2.*'a'"):
        rr.data.require_unique(pl.DataFrame({"id": ["a", "b", "a"]}), "id")
    rr.data.require_unique(pl.DataFrame({"id": ["a", "b"]}), "id")
