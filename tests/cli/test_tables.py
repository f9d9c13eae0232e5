import datetime as dt

import polars as pl
import pytest

from retrank.cli.config import DataConfig, load_config
from retrank.cli.tables import digest, read_interactions, read_tables
from retrank.core.errors import ConfigError, DataError

NAMES = {"query": "person", "candidate": "song", "time": "time"}
PLAYS = pl.DataFrame({"person": ["01", "1", "2"], "song": ["s1", "s2", "s1"], "time": [1, 2, 3]})
SONGS = pl.DataFrame({"song": ["s1", "s2"], "genre": ["a", "b"]})
PEOPLE = pl.DataFrame({"person": ["01", "1", "2"], "age": [20, 30, 40]})


def data_of(folder, **tables):
    paths = {}
    for name, (table, ending) in tables.items():
        paths[name] = folder / f"{name}.{ending}"
        getattr(table, {"csv": "write_csv", "parquet": "write_parquet"}[ending])(paths[name])
    return DataConfig(**NAMES, **paths)


def test_keys_of_csv_files_are_read_as_the_interactions_have_them(tmp_path):
    parts = {"candidates": (SONGS, "csv"), "queries": (PEOPLE, "csv")}
    interactions, _, queries, _ = read_tables(data_of(tmp_path, interactions=(PLAYS, "parquet"), **parts))
    assert queries["person"].to_list() == ["01", "1", "2"]
    assert interactions["age"].to_list() == [20, 30, 40]
    assert interactions["genre"].to_list() == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("candidates", pl.concat([SONGS, SONGS[:1]]), "'song', row 2 .*every value once, got 's1'"),
        ("queries", pl.concat([PEOPLE, PEOPLE[1:]]), "'person', row 3 .*every value once, got '1'"),
        ("queries", PEOPLE.with_columns(pl.col("person").cast(pl.Int64)), "keys of type String.*Int64"),
        ("candidates", SONGS.with_columns(song=pl.lit(None, pl.String)), "'song', row 0"),
        ("candidates", SONGS.drop("song"), "'song'"),
        ("interactions", PLAYS.with_columns(person=pl.lit(1.5)), "text or integer keys"),
        ("interactions", PLAYS.with_columns(time=pl.lit("now")), "'time'"),
    ],
)
def test_bad_tables_are_refused_by_name_and_row(tmp_path, name, table, message):
    parts = {"interactions": PLAYS, "candidates": SONGS, "queries": PEOPLE, name: table}
    with pytest.raises(DataError, match=message):
        read_tables(data_of(tmp_path, **{part: (content, "parquet") for part, content in parts.items()}))


def test_csv_keys_that_are_not_of_the_wanted_type_are_named(tmp_path):
    PLAYS.with_columns(person=pl.Series(["1", "2", "abc"])).write_csv(tmp_path / "plays.csv")
    keys = {"person": pl.Int64(), "song": pl.String()}
    with pytest.raises(DataError, match="'person', row 2 of .*plays.csv: expected keys of type Int64, got 'abc'"):
        read_interactions(tmp_path / "plays.csv", keys)
    assert read_interactions(tmp_path / "plays.csv", {"person": pl.String()})["person"].to_list() == ["1", "2", "abc"]


def test_a_padded_key_is_no_number(tmp_path):
    PLAYS.with_columns(person=pl.Series(["007", "8", "9"])).write_csv(tmp_path / "plays.csv")
    with pytest.raises(DataError, match=r"'person', row 0 of .*plays.csv: .*got '007'.*\[data.types\]"):
        read_interactions(tmp_path / "plays.csv", {"person": pl.Int64(), "song": pl.String()})


def test_declared_types_hold_in_all_csv_tables(tmp_path):
    numbers = {"person": ["1", "2", "3"], "song": ["7", "8", "7"], "time": [1, 2, 3]}
    pl.DataFrame(numbers).write_csv(tmp_path / "interactions.csv")
    pl.DataFrame({"song": ["07", "7", "8"], "year": ["1990", "2000", "2010"]}).write_csv(tmp_path / "candidates.csv")
    paths = {name: tmp_path / f"{name}.csv" for name in ("interactions", "candidates")}
    with pytest.raises(DataError, match="got '07'"):
        read_tables(DataConfig(**NAMES, **paths))
    types = {"song": "text", "year": "number", "time": "number"}
    interactions, candidates, _, _ = read_tables(DataConfig(**NAMES, **paths, types=types))
    assert interactions["song"].to_list() == ["7", "8", "7"]
    assert interactions["year"].to_list() == [2000.0, 2010.0, 2000.0]
    assert (interactions.schema["time"], candidates.schema["year"]) == (pl.Float64, pl.Float64)
    with pytest.raises(ConfigError, match="'sonk'; did you mean 'song'"):
        read_tables(DataConfig(**NAMES, **paths, types=types | {"sonk": "text"}))
    PLAYS.write_csv(tmp_path / "plays.csv")
    SONGS.write_parquet(tmp_path / "songs.parquet")
    with pytest.raises(ConfigError, match="'genre'; Parquet files say"):
        files = {**paths, "interactions": tmp_path / "plays.csv", "candidates": tmp_path / "songs.parquet"}
        read_tables(DataConfig(**NAMES, **files, types={"genre": "text"}))


def test_times_written_out_are_read(tmp_path):
    PLAYS.with_columns(time=pl.lit("2024-01-01 10:00:00")).write_csv(tmp_path / "interactions.csv")
    SONGS.write_csv(tmp_path / "candidates.csv")
    paths = {name: tmp_path / f"{name}.csv" for name in ("interactions", "candidates")}
    assert read_tables(DataConfig(**NAMES, **paths))[0]["time"].to_list() == [dt.datetime(2024, 1, 1, 10)] * 3
    PLAYS.with_columns(time=pl.lit("31/12/2024")).write_csv(tmp_path / "interactions.csv")
    with pytest.raises(DataError, match=r"'time' of .*interactions.csv.*such as '31/12/2024'; write times in ISO 8601"):
        read_tables(DataConfig(**NAMES, **paths))


def test_a_key_without_details_is_named(tmp_path):
    parts = {"interactions": (PLAYS, "parquet"), "candidates": (SONGS[:1], "csv")}
    with pytest.raises(DataError, match=r"'song', row 1 of .*interactions.parquet: .*candidates.csv has, got 's2'"):
        read_tables(data_of(tmp_path, **parts))
    parts = {"interactions": (PLAYS, "csv"), "candidates": (SONGS, "csv"), "queries": (PEOPLE[1:], "csv")}
    with pytest.raises(DataError, match=r"'person', row 0 of .*interactions.csv: .*queries.csv has, got '01'"):
        read_tables(data_of(tmp_path, **parts))
    parts = {"interactions": (PLAYS, "parquet"), "candidates": (SONGS[:1].select("song"), "csv")}
    assert len(read_tables(data_of(tmp_path, **parts))[0]) == 3  # nothing is known of any candidate


def test_a_table_with_a_header_only_is_named(tmp_path):
    tables = {"interactions": PLAYS, "candidates": SONGS, "queries": PEOPLE}
    for name in tables:
        parts = {part: (table.clear() if part == name else table, "csv") for part, table in tables.items()}
        with pytest.raises(DataError, match=rf"{name}\.csv: expected at least one row, got an empty table"):
            read_tables(data_of(tmp_path, **parts))


def test_a_key_column_that_is_not_there_is_suggested(tmp_path):
    parts = {"interactions": (PLAYS, "csv"), "candidates": (SONGS, "csv")}
    for name, wrong in (("query", "persons"), ("candidate", "sng"), ("time", "tme")):
        data = data_of(tmp_path, **parts).model_copy(update={name: wrong})
        with pytest.raises(DataError, match=f"expected a column '{wrong}'.*did you mean '{NAMES[name]}'"):
            read_tables(data)


def test_integers_of_another_width_are_the_same_keys(tmp_path):
    narrow = pl.DataFrame({"person": pl.Series([1, 2], dtype=pl.Int32)})
    narrow.write_parquet(tmp_path / "narrow.parquet")
    table = read_interactions(tmp_path / "narrow.parquet", {"person": pl.Int64()})
    assert table.schema == {"person": pl.Int64}
    with pytest.raises(DataError, match="'person'.*keys of type String"):
        read_interactions(tmp_path / "narrow.parquet", {"person": pl.String()})


def test_the_digest_tells_contents_apart():
    assert digest(PLAYS, None) == digest(PLAYS.clone(), None)
    others = [
        PLAYS[::-1],
        PLAYS.with_columns(time=pl.col("time") + 1),
        PLAYS.with_columns(pl.col("time").cast(pl.Int32)),
        PLAYS.rename({"time": "when"}),
        PLAYS.with_columns(day=pl.lit(dt.date(2020, 1, 1)), tags=pl.lit(["a"])),
    ]
    assert len({digest(PLAYS), digest(PLAYS, PLAYS), *map(digest, others)}) == 2 + len(others)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"dataset": "movielens_100k", "interactions": "plays.csv"}, "interactions"),
        ({"dataset": "movielens_100k", "queries": "people.csv"}, "queries"),
        ({"dataset": "movielens_100k", "interactions": "a.csv", "candidates": "b.csv"}, "candidates"),
        ({"dataset": "movielens_100k", "test": "late.csv"}, "test"),
        ({"candidates": "songs.csv"}, "'dataset' or 'interactions'"),
        ({"interactions": "a.csv", "candidates": "b.csv", "root": "data"}, "'root'"),
    ],
)
def test_entries_that_would_be_ignored_are_refused(tmp_path, entries, message):
    lines = "\n".join(f'{name} = "{value}"' for name, value in {**NAMES, **entries}.items())
    (tmp_path / "run.toml").write_text(f"[data]\n{lines}\n[features]\n[retrieval]\nquery = []\ncandidate = []\n")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "run.toml")
