"""The row that an error names is the row of the caller's own table, however the table was read."""

import math
import pickle

import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import DataError
from retrank.data import blocks
from retrank.features import fitting

F = rr.features
NUM_ROWS, BAD_ROW = 90, 71
BLOCK = 20

KINDS = {
    "rescaled": (F.Rescaled, 1.0, 1e39),
    "normalized": (F.Normalized, 1.0, 1e39),
    "log": (F.Log, 1.0, -1.0),
    "passthrough": (F.Passthrough, 1.0, math.nan),
    "vector": (F.Passthrough, [1.0, 2.0], [1.0, math.inf]),
    "uneven vector": (F.Passthrough, [1.0, 2.0], [1.0]),
    "bucketized": (lambda: F.Bucketized([1.0]), 1.0, None),
    "discretized": (lambda: F.Discretized(2), 1.0, math.inf),
    "timestamp": (lambda: F.TimestampPart("hour"), 1, None),
    "other unit": (lambda: F.TimestampPart("hour"), 1, 1_700_000_000_000),
    "categorical": (F.Categorical, "a", None),
    "integer": (F.Categorical, 1, 2**63),
    "hashed": (lambda: F.Hashed(9), "a", None),
    "list": (F.CategoricalList, ["a"], None),
    "null in a list": (F.CategoricalList, ["a", "b"], ["a", None]),
    "integer in a list": (lambda: F.CategoricalList(nulls="unknown"), [1, 2, 3], [2**63]),
    "text": (F.Text, "a", None),
}
TYPES = {"integer": pl.UInt64, "integer in a list": pl.List(pl.UInt64)}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(blocks, "_ROWS", BLOCK)
    monkeypatch.setattr(fitting, "_ROWS", BLOCK)


@pytest.fixture(params=KINDS)
def case(request):
    """A space, a good table and one with a bad value, both of the column `x`."""
    build, good, bad = KINDS[request.param]
    dtype = TYPES.get(request.param)
    values = [good] * NUM_ROWS
    tables = [
        pl.DataFrame({"x": pl.Series(column, dtype=dtype, strict=False)})
        for column in (values, [*values[:BAD_ROW], bad, *values[BAD_ROW + 1 :]])
    ]
    tables[0] = tables[0].cast(tables[1].schema)
    return rr.FeatureSpace({"x": build()}), *tables


def test_fitting_in_pieces(case):
    space, _, bad = case
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        space.fit(bad)
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        space.summarize(bad, shard=(2, 3))


def test_transforming_in_blocks(case):
    space, good, bad = case
    space.fit(good)
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        space.transform(bad)


def test_streaming(case):
    space, good, bad = case
    space.fit(good)
    read = SmallPieces(bad)
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        list(space.loader(read, 8, streaming=True))
    sharded = rr.data.StreamingLoader(read, space.transform, 8, shard=(1, 2))
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        list(sharded)
    resumed = space.loader(read, 8, streaming=True)
    resumed.load_state_dict({"epoch": 0, "batch": 4})
    with pytest.raises(DataError, match=rf"column 'x', row {BAD_ROW}: expected"):
        list(resumed)


class SmallPieces(rr.data.Source):
    """A table that is read a few rows at a time."""

    def __init__(self, table):
        self._source = rr.data.source(table)

    @property
    def columns(self):
        return self._source.columns

    @property
    def num_rows(self):
        return self._source.num_rows

    def name_of(self, row):
        return self._source.name_of(row)

    def frame(self, columns=None):
        return self._source.frame(columns)

    def frames(self, rows=7, columns=None, **which):
        return self._source.frames(7, columns, **which)


def test_files_are_named(case, tmp_path):
    space, good, bad = case
    bad[:40].write_parquet(tmp_path / "1.parquet")
    bad[40:].write_parquet(tmp_path / "2.parquet")
    bad.write_parquet(tmp_path / "whole.parquet")
    space = rr.FeatureSpace({"x": space["x"]})
    pattern = str(tmp_path / "[12].parquet")
    inside = rf"column 'x', row {BAD_ROW} of '.*\[12\].parquet' \(row {BAD_ROW - 40} of .*2.parquet\): expected"
    whole = rf"column 'x', row {BAD_ROW} of .*whole.parquet: expected"
    for path, words in ((pattern, inside), (str(tmp_path / "whole.parquet"), whole)):
        with pytest.raises(DataError, match=words):
            space.fit(path)
        fitted = rr.FeatureSpace({"x": space["x"]}).fit(good)
        with pytest.raises(DataError, match=words):
            fitted.transform(path)
        with pytest.raises(DataError, match=words):
            fitted.loader(path, 8)
        with pytest.raises(DataError, match=words):
            list(fitted.loader(SmallPieces(path), 8, streaming=True))


def test_checks_of_tables_are_numbered_alike():
    table = pl.DataFrame({"x": [1, 2, None]})
    with pytest.raises(DataError, match=r"column 'x', row 2 of users") as raised:
        rr.data.require_no_nulls(table, ["x"], "users")
    assert (raised.value.row, raised.value.table) == (2, "users")
    moved = raised.value.in_table(100, "another name")
    assert str(moved) == str(raised.value).replace("row 2", "row 102")


def test_an_error_without_a_row_stays_as_it_is():
    error = DataError("numbers", "String", "column 'x'")
    assert error.in_table(100) is error
    assert str(error) == "column 'x': expected numbers, got String"


@pytest.mark.parametrize(
    "error", [DataError("a", "b", "c", "d", row=3, table="t"), rr.errors.ConfigError("a", "b", "c")]
)
def test_errors_travel_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_vectors_of_two_widths_in_two_pieces_name_the_feature():
    table = pl.DataFrame({"x": [[1.0, 2.0]] * BLOCK + [[1.0]] * BLOCK})
    with pytest.raises(DataError, match="feature 'x': expected 2 in every part of the table, got 1"):
        rr.FeatureSpace({"x": F.Passthrough()}).fit(table)


def test_a_piece_of_empty_lists_agrees_with_every_other():
    table = pl.DataFrame({"film": ["a"] * 2 * BLOCK, "recent": [[]] * BLOCK + [["a"]] * BLOCK})
    space = rr.FeatureSpace({"film": F.Categorical(), "recent": F.Recent("film")}).fit(table)
    assert space.transform(table)["recent"].values.tolist() == [2] * BLOCK
