import contextlib
import io
import random

import polars as pl
import pytest

from retrank.core.errors import StorageError
from retrank.core.parquet import parse_parquet, read_parquet, write_parquet

LISTS = pl.DataFrame({"lists": [["x"] * 3, None, []] * 1000, "structs": [{"a": 1, "b": None}] * 3000})
TABLES = [
    pl.DataFrame(),
    pl.DataFrame({"a": pl.Series([], dtype=pl.Int64)}),
    pl.DataFrame({"one value": [1] * 1_000_000}),
    pl.DataFrame({"key": [f"s{n}" for n in range(5000)], "count": range(5000)}),
    LISTS.with_columns(nulls=None),
    pl.DataFrame({"vectors": pl.Series([[1.0, 2.0]] * 30, dtype=pl.Array(pl.Float32, 2)), "flags": [True, None] * 15}),
]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_comes_back(tmp_path, table):
    write_parquet(tmp_path / "a.parquet", table)
    assert read_parquet(tmp_path / "a.parquet").equals(table)


@pytest.mark.parametrize("options", [{"row_group_size": 100}, {"data_page_size": 64}, {"compression": "uncompressed"}])
def test_other_writers_settings_are_read(options):
    buffer = io.BytesIO()
    TABLES[3].write_parquet(buffer, **options)
    assert parse_parquet(buffer.getvalue(), "a.parquet").equals(TABLES[3])


def test_tables_of_another_library_are_read():
    pq = pytest.importorskip("pyarrow.parquet")
    for version in ("1.0", "2.0"):
        buffer = io.BytesIO()
        pq.write_table(LISTS.to_arrow(), buffer, data_page_version=version)
        assert parse_parquet(buffer.getvalue(), "a.parquet").shape == (3000, 2)


def read_or_refuse(content):
    """An abort of the process would end the tests."""
    with contextlib.suppress(StorageError):
        parse_parquet(content, "a.parquet")


def test_a_count_that_would_end_the_process_is_refused():
    """polars makes room for the number of values that a page states, and aborts where there is none."""
    buffer = io.BytesIO()
    pl.DataFrame({"key": range(50)}).write_parquet(buffer)
    content = buffer.getvalue()
    places = [place for place in range(4, len(content) - 8) if content[place] == 0x64]  # 50 values, zigzag
    assert places
    for place in places:
        for other in (0x63, 0x01, 0x66):  # -50, -1, 51
            read_or_refuse(content[:place] + bytes([other]) + content[place + 1 :])
    with pytest.raises(StorageError, match=r"^a\.parquet: "):  # the first of them is in the header of the page
        parse_parquet(content[: places[0]] + b"\x63" + content[places[0] + 1 :], "a.parquet")


def test_damage_is_an_error_of_ours():
    buffer = io.BytesIO()
    TABLES[3].head(40).write_parquet(buffer)
    content, source = buffer.getvalue(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(source.choice([1, 3])):
            damaged[source.randrange(len(damaged))] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        read_or_refuse(bytes(damaged[: source.choice([len(damaged), source.randrange(len(damaged))])]))
