from itertools import pairwise

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.data.regroup import regroup

TABLE = pl.DataFrame({"id": [f"u{n}" for n in range(17)], "x": range(17), "tags": [[n] * (n % 3) for n in range(17)]})


@pytest.fixture(params=["frame", "parquet", "csv", "many parquet"])
def table(request, tmp_path):
    """Return the same 17 rows (id, x) behind every kind of source."""
    rows = TABLE.drop("tags")
    match request.param:
        case "frame":
            return rr.data.source(rows)
        case "parquet":
            rows.write_parquet(tmp_path / "all.parquet", row_group_size=5)
            return rr.data.source(tmp_path / "all.parquet")
        case "csv":
            rows.write_csv(tmp_path / "all.csv")
            return rr.data.source(str(tmp_path / "all.csv"))
    for number, part in enumerate([rows[:6], rows[6:6], rows[6:13], rows[13:]]):
        part.write_parquet(tmp_path / f"{number}.parquet", row_group_size=4)
    return rr.data.source(f"{tmp_path}/*.parquet")


def xs(pieces):
    return [value for piece in pieces for value in piece["x"].to_list()]


def test_whole_table(table):
    assert table.num_rows == 17
    assert dict(table.columns) == {"id": pl.String(), "x": pl.Int64()}
    assert table.frame().equals(TABLE.drop("tags"))
    assert table.frame(["x", "id"]).columns == ["x", "id"]


def test_pieces_have_the_asked_size_and_order(table):
    for rows in (1, 4, 17, 100):
        pieces = list(table.frames(rows=rows, columns=["x"]))
        assert [len(piece) for piece in pieces] == [rows] * (17 // rows) + ([17 % rows] if 17 % rows else [])
        assert xs(pieces) == list(range(17))


def test_shards_cover_every_row_once_and_can_be_resumed(table):
    for count in (1, 2, 3, 20):
        shards = [xs(table.frames(rows=4, shard=(index, count))) for index in range(count)]
        assert [row for shard in shards for row in shard] == list(range(17))
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        for index, shard in enumerate(shards):
            for start in (0, 1, 5, 30):
                assert xs(table.frames(rows=3, shard=(index, count), start=start)) == shard[start:]


def test_bad_pieces(table):
    with pytest.raises(rr.errors.ConfigError):
        table.frames(rows=0)
    with pytest.raises(rr.errors.ConfigError):
        table.frames(start=-1)
    for shard in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(rr.errors.ConfigError, match="shard"):
            table.frames(shard=shard)
    with pytest.raises(rr.errors.DataError, match="'y'"):
        table.frame(["y"])
    with pytest.raises(rr.errors.DataError, match="'y'"):
        table.frames(columns=["y"])


@given(num_rows=st.integers(0, 1000), count=st.integers(1, 50))
def test_shard_ranges_tile_the_rows(num_rows, count):
    ranges = [rr.data.shard_range(num_rows, (index, count)) for index in range(count)]
    assert [row for first, last in ranges for row in range(first, last)] == list(range(num_rows))
    assert {last - first for first, last in ranges} <= {num_rows // count, num_rows // count + 1}


def test_other_libraries_tables():
    columns = {"id": ["a", "b"], "x": [1.5, None]}
    wanted = pl.DataFrame(columns)
    for other in (pd.DataFrame(columns), pa.table(columns), pl.DataFrame(columns).lazy(), wanted):
        assert rr.data.frame(other).equals(wanted)
    own = rr.data.source(wanted)
    assert rr.data.source(own) is own


def test_pandas_index_and_nan_do_not_leak():
    other = pd.DataFrame({"x": [1.0, float("nan")]}, index=[7, 9])
    assert rr.data.frame(other).to_dict(as_series=False) == {"x": [1.0, None]}


def test_lists_of_arrow_tables():
    assert rr.data.frame(pa.table({"tags": [["a"], []]}))["tags"].to_list() == [["a"], []]


def test_what_is_no_table():
    for other in ([1, 2], {"a": [1]}, None, 3):
        with pytest.raises(rr.errors.DataError, match=type(other).__name__):
            rr.data.source(other)
    with pytest.raises(rr.errors.DataError, match="pandas DataFrame"):
        rr.data.source(pd.DataFrame({"x": pd.Series([1, "a", object()], dtype=object)}))
    with pytest.raises(rr.errors.DataError, match="LazyFrame"):
        rr.data.source(pl.LazyFrame({"a": [1]}).select("b"))


def test_missing_files(tmp_path):
    with pytest.raises(rr.errors.DataError, match=r"glob '.*/\*\.parquet'"):
        rr.data.source(f"{tmp_path}/*.parquet")
    with pytest.raises(rr.errors.DataError, match=r"no\.csv: expected a file, got no such file"):
        rr.data.source(tmp_path / "no.csv")
    with pytest.raises(rr.errors.DataError, match="a folder"):
        rr.data.source(tmp_path)
    (tmp_path / "a.txt").write_text("x\n1\n")
    with pytest.raises(rr.errors.DataError, match=r"a\.txt.*\.parquet"):
        rr.data.source(tmp_path / "a.txt")


def test_name_with_glob_characters_is_a_file(tmp_path):
    TABLE.write_parquet(tmp_path / "a[1].parquet")
    assert rr.data.source(tmp_path / "a[1].parquet").frame().equals(TABLE)


def test_unreadable_files_are_named(tmp_path):
    good, cut, empty = tmp_path / "1.parquet", tmp_path / "2.parquet", tmp_path / "3.csv"
    TABLE.write_parquet(good)
    cut.write_bytes(good.read_bytes()[:-40])
    empty.write_text("")
    for path in (cut, f"{tmp_path}/*.parquet"):
        with pytest.raises(rr.errors.DataError, match=r"2\.parquet"):
            rr.data.source(path)
    with pytest.raises(rr.errors.DataError, match=r"3\.csv"):
        rr.data.source(empty)


def test_file_that_vanishes_later_is_named(tmp_path):
    TABLE.write_parquet(tmp_path / "1.parquet")
    table = rr.data.source(tmp_path / "1.parquet")
    (tmp_path / "1.parquet").unlink()
    with pytest.raises(rr.errors.DataError, match=r"1\.parquet"):
        table.frame()


def test_files_must_be_alike(tmp_path):
    pl.DataFrame({"x": [1], "y": [1]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"y": [2], "x": [2]}).write_parquet(tmp_path / "2.parquet")
    assert rr.data.frame(f"{tmp_path}/*.parquet")["x"].to_list() == [1, 2]  # matched by name
    pl.DataFrame({"x": [1.5], "y": [1]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(rr.errors.DataError, match=r"column 'x' of .*3\.parquet"):
        rr.data.source(f"{tmp_path}/*.parquet")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(rr.errors.DataError, match=r"3\.parquet.*'y'"):
        rr.data.source(f"{tmp_path}/*.parquet")
    pl.DataFrame({"x": [1], "y": [1], "z": [1]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(rr.errors.DataError, match=r"'z'"):
        rr.data.source(f"{tmp_path}/*.parquet")


def test_csv_types(tmp_path):
    path = tmp_path / "users.tsv"
    path.write_text("id\tzip\n1\t0.50\n2\t1.5\n")
    assert rr.data.frame(path)["zip"].to_list() == [0.5, 1.5]
    assert rr.data.FileSource(path, schema={"zip": pl.String}).frame()["zip"].to_list() == ["0.50", "1.5"]
    assert rr.data.frame(path, ["zip"], schema={"zip": pl.String})["zip"].to_list() == ["0.50", "1.5"]
    with pytest.raises(rr.errors.DataError, match="'zap'"):
        rr.data.FileSource(path, schema={"zap": pl.String})
    TABLE.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(rr.errors.ConfigError, match="schema"):
        rr.data.FileSource(tmp_path / "a.parquet", schema={"x": pl.Int8})
    with pytest.raises(rr.errors.ConfigError, match="schema"):
        rr.data.frame(TABLE, schema={"x": pl.Int8})
    with pytest.raises(rr.errors.DataError, match="files of one kind"):
        rr.data.source(f"{tmp_path}/*.*")


def test_csv_that_changes_type_after_the_guess(tmp_path):
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 10_001 + "one\n")
    table = rr.data.source(tmp_path / "a.csv")
    for read in (table.frame, lambda: list(table.frames())):
        with pytest.raises(rr.errors.DataError, match=r"a\.csv.*`one`.*schema="):
            read()


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 7), max_size=8), size=st.integers(1, 9), first=st.none() | st.integers(1, 9))
def test_regroup_keeps_every_row_in_order(sizes, size, first):
    rows = "".join(chr(97 + n % 26) for n in range(sum(sizes)))
    cuts = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    pieces = [rows[a:b] for a, b in pairwise(cuts)]
    out = list(regroup(pieces, size=size, concat="".join, first=first))
    assert "".join(out) == rows
    wanted = [first or size] + [size] * len(rows)
    assert [len(part) for part in out[:-1]] == wanted[: max(len(out) - 1, 0)]
    assert all(0 < len(part) <= most for part, most in zip(out, wanted, strict=False))
