"""What CSV files and folders say, read as it was meant: no two keys become one, and times are times."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.data.csv_types import guessed_of_text

UTC = dt.UTC
MOMENT = dt.datetime(2024, 1, 31, 10, 30, 5)


def read(folder, values, **options):
    (folder / "a.csv").write_text("\n".join(["x,n", *(f"{value},{n}" for n, value in enumerate(values))]) + "\n")
    return rr.data.frame(folder / "a.csv", **options)["x"]


@pytest.mark.parametrize("odd", ["007", "+7", "-07", "-0", "00"])
@pytest.mark.parametrize("before", [0, 10_001], ids=["at once", "late"])
def test_padded_numbers_are_text(tmp_path, odd, before):
    values = ["7"] * before + [odd, "7", "", "12"]
    assert read(tmp_path, values).to_list() == [value or None for value in values]


def test_numbers_are_numbers(tmp_path):
    assert read(tmp_path, ["0", "7", "-7", "", "100"]).to_list() == [0, 7, -7, None, 100]
    assert read(tmp_path, ["0.5", "-0.5", "7"]).to_list() == [0.5, -0.5, 7]
    assert read(tmp_path, ["007", "7"], schema={"x": pl.Int64}).to_list() == [7, 7]  # as was asked for


def test_a_padded_number_in_any_file_makes_the_column_text_in_all(tmp_path):
    (tmp_path / "1.csv").write_text("x\n7\n8\n")
    (tmp_path / "2.csv").write_text("x\n007\n")
    table = rr.data.source(f"{tmp_path}/*.csv")
    assert table.num_rows == 3
    assert table.frame()["x"].to_list() == ["7", "8", "007"]
    assert [piece["x"].to_list() for piece in table.frames(rows=2, start=1)] == [["8", "007"]]


@settings(max_examples=40)
@given(keys=st.lists(st.from_regex(r"[+-]?[0-9]{1,20}", fullmatch=True), min_size=1, max_size=8))
def test_distinct_keys_stay_distinct(tmp_path_factory, keys):
    read_keys = read(tmp_path_factory.mktemp("keys"), keys)
    assert read_keys.n_unique() == len(set(keys))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-31", MOMENT.date()),
        ("2024-01-31 10:30", MOMENT.replace(second=0)),
        ("2024-01-31T10:30:05", MOMENT),
        ("2024-01-31 10:30:05.25", MOMENT.replace(microsecond=250_000)),
        ("2024-01-31T10:30:05.000001000", MOMENT.replace(microsecond=1)),
        ("2024-01-31T10:30:05Z", MOMENT.replace(tzinfo=UTC)),
        ("2024-01-31 10:30Z", MOMENT.replace(second=0, tzinfo=UTC)),
        ("2024-01-31 10:30:05 UTC", MOMENT.replace(tzinfo=UTC)),
        ("2024-01-31 12:30:05+02:00", MOMENT.replace(tzinfo=UTC)),
        ("2024-01-31 12:30:05.5+0200", MOMENT.replace(microsecond=500_000, tzinfo=UTC)),
        ("2024-01-31 08:30:05-02", MOMENT.replace(tzinfo=UTC)),
    ],
)
def test_times_in_iso_8601_are_times(tmp_path, text, value):
    assert read(tmp_path, [text, "", text]).to_list() == [value, None, value]


@pytest.mark.parametrize("dtype", [pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC")])
def test_what_polars_and_pandas_write_is_read_as_it_was(tmp_path, dtype):
    table = pl.DataFrame({"x": [0, 86_400_000_000, 1_700_000_000_123_456]}).with_columns(
        pl.col("x").cast(pl.Datetime("us")).cast(dtype) if dtype == pl.Date else pl.col("x").cast(dtype)
    )
    table.write_csv(tmp_path / "polars.csv")
    assert rr.data.frame(tmp_path / "polars.csv").equals(table)
    table.to_pandas().to_csv(tmp_path / "pandas.csv", index=False)
    assert rr.data.frame(tmp_path / "pandas.csv").equals(table)


def test_a_column_of_other_texts_too_is_text(tmp_path):
    for values in (["2024-01-31", "soon"], ["2024-01-31 10:30Z", "2024-01-31 10:30"], ["10:30", "11:00"]):
        assert read(tmp_path, values).to_list() == values
    late = ["2024-01-31"] * 10_001 + ["soon"]
    assert read(tmp_path, late).to_list() == late
    assert read(tmp_path, ["2024-01-31"], schema={"x": pl.String}).to_list() == ["2024-01-31"]


def test_a_date_that_is_none_is_named_with_its_row(tmp_path):
    with pytest.raises(rr.errors.DataError, match=r"'x', row 2 of .*a\.csv: .*got '2023-02-29'"):
        read(tmp_path, ["2024-02-29", "", "2023-02-29"])
    with pytest.raises(rr.errors.DataError, match=r"'x', row 1 of .*a\.csv: .*got 'soon'"):
        read(tmp_path, ["2024-02-29", "soon"], schema={"x": pl.Date})


def test_folders_are_columns(tmp_path):
    for day, shop in ((1, "a b"), (2, "c")):
        folder = tmp_path / f"day={day}" / f"shop={shop.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        pl.DataFrame({"x": [day * 10, day * 10 + 1]}).write_parquet(folder / "part.parquet")
        pl.DataFrame({"x": [day * 10, day * 10 + 1]}).write_csv(folder / "part.csv")
    for ending in ("parquet", "csv"):
        table = rr.data.source(f"{tmp_path}/**/*.{ending}")
        assert dict(table.columns) == {"x": pl.Int64, "day": pl.Int64, "shop": pl.String}
        wanted = [(10, 1, "a b"), (11, 1, "a b"), (20, 2, "c"), (21, 2, "c")]
        assert table.frame().rows() == wanted
        assert [row for piece in table.frames(rows=3, start=1) for row in piece.rows()] == wanted[1:]
        assert table.frame(["shop"]).rows() == [(shop,) for _, _, shop in wanted]
    as_text = rr.data.frame(f"{tmp_path}/**/*.parquet", schema={"day": pl.String})
    assert as_text["day"].to_list() == ["1", "1", "2", "2"]
    with pytest.raises(rr.errors.DataError, match="'shop='.*'a b'"):
        rr.data.frame(f"{tmp_path}/**/*.parquet", schema={"shop": pl.Int64})


def test_folders_of_dates_padded_numbers_and_nulls(tmp_path):
    for date, month in (("2024-01-31", "01"), ("2024-02-01", "02"), ("__HIVE_DEFAULT_PARTITION__", "1")):
        (tmp_path / f"date={date}" / f"month={month}").mkdir(parents=True)
        pl.DataFrame({"x": [1]}).write_parquet(tmp_path / f"date={date}" / f"month={month}" / "a.parquet")
    table = rr.data.frame(f"{tmp_path}/**/*.parquet")
    assert table["date"].to_list() == [dt.date(2024, 1, 31), dt.date(2024, 2, 1), None]
    assert table["month"].to_list() == ["01", "02", "1"]


def test_folders_that_differ_or_repeat_a_column(tmp_path):
    (tmp_path / "x=5").mkdir()
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "x=5" / "a.parquet")
    assert rr.data.frame(f"{tmp_path}/**/*.parquet")["x"].to_list() == [1]  # what the file says
    assert rr.data.frame(tmp_path / "x=5" / "a.parquet").columns == ["x"]
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(rr.errors.DataError, match="folders of"):
        rr.data.frame(f"{tmp_path}/**/*.parquet")


@given(st.lists(st.none() | st.from_regex(r"[+-]?[0-9]{1,3}|[0-9]{1,2}-?x?", fullmatch=True), min_size=1))
def test_guessed_texts_keep_what_they_say(texts):
    guessed = guessed_of_text(pl.Series(texts, dtype=pl.String))
    assert guessed.cast(pl.String).to_list() == texts
