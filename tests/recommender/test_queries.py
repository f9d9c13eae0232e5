import polars as pl
import pytest

from retrank.core.errors import DataError
from retrank.recommender.queries import QueryTable

table = pl.DataFrame({"user": ["a", "b", "a"], "age": [20, 30, 21], "city": ["x", None, "y"], "noise": [1, 2, 3]})


def test_the_last_row_of_a_query_counts():
    known = QueryTable(table, "user", {"age": False})
    assert known.table.sort("user").to_dicts() == [{"user": "a", "age": 21}, {"user": "b", "age": 30}]


def test_what_a_query_brings_wins():
    known = QueryTable(table, "user", {"age": False, "city": False})
    asked = pl.DataFrame({"age": [50, None, 7, 8], "user": ["a", "a", "b", "new"], "other": [1, 1, 1, 1]})
    completed, complete = known.complete(asked)
    assert completed.columns == ["user", "age", "city"]
    assert completed["age"].to_list() == [50, 21, 7, 8]
    assert completed["city"].to_list() == ["y", "y", None, None]
    assert complete.to_list() == [True, True, False, False]


def test_order_and_repeats_are_kept():
    known = QueryTable(table, "user", {"age": False})
    completed, complete = known.complete(pl.DataFrame({"user": ["b", "new", "a", "b"]}))
    assert completed["user"].to_list() == ["b", "new", "a", "b"]
    assert complete.to_list() == [True, False, True, True]


def test_bad_tables_are_refused():
    with pytest.raises(DataError, match="'height'"):
        QueryTable(table, "user", {"height": False})
    known = QueryTable(table, "user", {"age": False})
    with pytest.raises(DataError, match="'user'"):
        known.complete(pl.DataFrame({"usr": ["a"]}))
    with pytest.raises(DataError, match=r"integer.*'user'|'user'.*integer"):
        known.complete(pl.DataFrame({"user": [42]}))
    with pytest.raises(DataError, match=r"row 1"):
        known.complete(pl.DataFrame({"user": ["a", None]}))


def test_a_stranger_must_bring_something():
    nothing_needed = QueryTable(table, "user", {})
    _, usable = nothing_needed.complete(pl.DataFrame({"user": ["a", "new"]}))
    assert usable.to_list() == [True, False]
    known = QueryTable(table, "user", {"age": True, "city": True})
    _, usable = known.complete(pl.DataFrame({"user": ["new", "new", "b"], "age": [None, 3, None]}))
    assert usable.to_list() == [False, True, True]


def test_keys_of_any_integer_width_are_one_type():
    known = QueryTable(pl.DataFrame({"user": pl.Series([1, 2], dtype=pl.Int32), "age": [3, 4]}), "user", {"age": False})
    for dtype in (pl.Int64, pl.UInt64, pl.Int8):
        completed, usable = known.complete(pl.DataFrame({"user": pl.Series([2], dtype=dtype)}))
        assert completed["age"].to_list() == [4]
        assert usable.all()


def test_values_of_another_type_are_refused():
    known = QueryTable(table, "user", {"age": False})
    with pytest.raises(DataError, match="'age'"):
        known.complete(pl.DataFrame({"user": ["a"], "age": [[3]]}))
