"""Every fast path gives what the plain one gives: tables of keys, counting, bins, blocks, texts that repeat."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import DataError
from retrank.data.blocks import in_blocks
from retrank.data.key_tables import DenseTable, HashTable, key_table
from retrank.features import statistics
from retrank.features.bins import places_among
from retrank.features.counting import count_keys
from retrank.features.statistics import KeyCounts, ValueCounts

INT64 = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(-20, 20)
KEYS = [
    st.tuples(st.lists(of, unique=True, max_size=40), st.lists(st.none() | of, max_size=40))
    for of in (NEAR, INT64, NEAR | INT64, st.text(max_size=20), st.booleans())
]
MANY = 2**17 + 3  # more than one block of any kind


def series(values: list[object], like: list[object]) -> pl.Series:
    kinds = {bool: pl.Boolean, str: pl.String}
    return pl.Series("key", values, dtype=kinds.get(type((like or values or [0])[0]), pl.Int64))


@pytest.mark.parametrize("keys_and_values", KEYS, ids=["near", "far", "both", "text", "boolean"])
def test_every_table_finds_what_a_dictionary_finds(
    keys_and_values: st.SearchStrategy[tuple[list[object], list[object]]],
) -> None:
    @given(keys_and_values)
    def check(drawn: tuple[list[object], list[object]]) -> None:
        keys, others = drawn
        values = others + keys
        places = {key: place for place, key in enumerate(keys)}
        expected = [places.get(value, -1) for value in values]
        column, wanted = (
            series(keys, [v for v in values if v is not None]),
            series(values, [v for v in values if v is not None]),
        )
        tables = [HashTable(column), key_table(column)]
        if keys and type(keys[0]) is int and max(keys) - min(keys) < 1000:
            tables.append(DenseTable(column))
        for table in tables:
            assert table.find(wanted).tolist() == expected

    check()


@pytest.mark.parametrize("kind", ["dense", "sparse", "text"])
def test_large_tables_find_every_key_and_no_stranger(kind: str) -> None:
    numbers = np.random.default_rng(0).permutation(300_000)
    column = pl.Series("key", numbers if kind != "sparse" else numbers * 2**40 + 7)
    column = column.cast(pl.String) + " a tail beyond twelve bytes" if kind == "text" else column
    keys, strangers = column[:200_000], column[200_000:]
    index = rr.data.KeyIndex(keys)
    assert (index.find(keys) == np.arange(200_000)).all()
    assert (index.find(strangers) == -1).all()
    assert index.find(pl.concat([strangers[:1], keys[-1:]])).tolist() == [-1, 199_999]  # two chunks


def test_dense_keys_at_the_ends_of_64_bits() -> None:
    for base in (-(2**63), 2**63 - 3):
        table = DenseTable(pl.Series([base + 2, base]))
        assert table.find(pl.Series([base, base + 1, base + 2, 0, -(2**63), 2**63 - 1]))[:4].tolist() == [1, -1, 0, -1]


@given(st.lists(NEAR | INT64, max_size=60), st.integers(0, 60))
def test_counts_equal_those_of_a_counter(values: list[int], cut: int) -> None:
    keys = pl.Series("key", values, dtype=pl.Int64)
    counted = count_keys(keys)
    assert dict(counted.rows()) == Counter(values)
    assert counted.schema == {"key": pl.Int64, "count": pl.Int64}
    merged = KeyCounts.of(keys[:cut]).merge(KeyCounts.of(keys[cut:])).frame
    assert dict(merged.rows()) == Counter(values)
    assert merged.schema == counted.schema


NUMBERS = {
    "half stars": lambda rng: rng.integers(1, 11, 300_000) / 2,
    "tenths": lambda rng: rng.integers(1, 1000, 300_000) / 10,
    "gamma, float32": lambda rng: rng.gamma(9, 4, 700_000).astype(np.float32).astype(np.float64),
    "around a large number": lambda rng: 1e6 + rng.random(700_000),
    "signs": lambda rng: rng.standard_normal(700_000),
    "zeros of both signs": lambda rng: rng.choice([0.0, -0.0, 1.0], 1000),
    "one": lambda rng: np.array([3.25]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_counted_in_cells_are_those_counted_by_sorting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = NUMBERS[name](np.random.default_rng(0))
    parts = np.array_split(numbers, 3)

    def collect() -> list[ValueCounts]:
        whole, first, second, third = map(ValueCounts.of, [numbers, *parts])
        return [whole, first.merge(second), first.merge(second).merge(third)]

    fast = collect()
    monkeypatch.setattr(statistics, "_MAX_CELLS", 0)
    for one, other in zip(fast, collect(), strict=True):
        assert one.bits == other.bits
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert one.counts.dtype == other.counts.dtype == np.int64


def test_few_distinct_numbers_stay_exact() -> None:
    counted = ValueCounts.of(np.repeat([0.5, 4.5], 200_000))
    assert (counted.bits, counted.values.tolist(), counted.counts.tolist()) == (52, [0.5, 4.5], [200_000, 200_000])


@given(
    st.lists(st.floats(-10, 10) | st.integers(-5, 5).map(float), max_size=40), st.lists(st.integers(-5, 5), max_size=50)
)
def test_places_among_boundaries(numbers: list[float], boundaries: list[int]) -> None:
    ascending = np.sort(np.array(boundaries, dtype=np.float64))
    expected = [sum(boundary <= number for boundary in boundaries) for number in numbers]
    assert places_among(ascending, np.array(numbers, dtype=np.float64)).tolist() == expected


def test_blocks_join_to_the_whole_column() -> None:
    column = pl.Series(np.arange(MANY))
    made = in_blocks(column, np.int64, lambda block: block.to_numpy() - block[0])
    starts = np.flatnonzero(made == 0)
    assert len(starts) == 2
    np.testing.assert_array_equal(made[starts[1] :], np.arange(MANY - starts[1]))


@pytest.mark.parametrize("kind", [rr.features.Passthrough(), rr.features.Rescaled(), rr.features.Bucketized([1.0])])
def test_a_bad_number_is_named_by_its_row_in_the_column(kind: rr.features.Feature) -> None:
    good = pl.DataFrame({"age": np.ones(MANY)})
    bad = pl.DataFrame({"age": np.append(np.ones(MANY - 1), np.nan)})
    space = rr.FeatureSpace({"age": kind}).fit(good)
    with pytest.raises(DataError, match=f"row {MANY - 1}:"):
        space.transform(bad)


def test_a_long_column_is_a_short_one_many_times() -> None:
    short = pl.DataFrame(
        {
            "film": [3, 1, None],
            "url": ["a", None, "b" * 30],
            "age": [1.0, 2.0, 30.0],
            "time": [0, 10**9, 3600],
            "tag": ["x", "y", "x"],
        }
    )
    space = rr.FeatureSpace(
        {
            "film": rr.features.Categorical(nulls="unknown"),
            "url": rr.features.Hashed(50, nulls="unknown"),
            "number": rr.features.Hashed(50, nulls="unknown", column="film"),
            "age": rr.features.Discretized(3),
            "log": rr.features.Log(column="age"),
            "hour": rr.features.TimestampPart("hour", column="time"),
            "tag": rr.features.Categorical(),
        },
        crosses=[rr.features.Cross("film", "tag", bins=20)],
    ).fit(short)
    copies = MANY // 3 + 1
    long = space.transform(pl.concat([short] * copies))
    for name, column in space.transform(short).items():
        assert torch.equal(long[name], column.repeat(copies)), name


def test_texts_that_repeat_give_the_words_of_each_row() -> None:
    texts = ["Toy Story!", "toy\u00a0story\t2\n", "", None, "  a  Story  "]
    short, long = pl.DataFrame({"title": texts}), pl.DataFrame({"title": texts * 2000})
    kind = rr.features.Text(nulls="unknown", max_length=2)
    few, many = (rr.FeatureSpace({"title": kind}).fit(table) for table in (short, long))
    vocabulary = many.vocabulary("title")
    assert vocabulary.keys.to_list() == few.vocabulary("title").keys.to_list() == ["story", "toy", "a", "2"]
    assert vocabulary.counts.tolist() == [6000, 4000, 2000, 2000]
    assert many.transform(long)["title"].to_lists() == few.transform(short)["title"].to_lists() * 2000
    assert few.transform(short)["title"].to_lists() == [[3, 2], [3, 2], [], [], [4, 2]]


@given(
    st.sampled_from([(pl.Int64, st.integers(-(2**63), 2**63 - 1)), (pl.Int64, st.integers(0, 50)),
                     (pl.String, st.text(max_size=3)), (pl.Boolean, st.booleans())]),
    st.data(),
)  # fmt: skip
def test_a_few_keys_are_found_one_by_one_as_many_are_together(kind, data):
    dtype, keys = kind
    known = data.draw(st.lists(keys, unique=True, min_size=1, max_size=20))
    later = [key for key in data.draw(st.lists(keys, unique=True, max_size=20)) if key not in known]
    index = rr.data.KeyIndex(pl.Series(known, dtype=dtype)).with_added(pl.Series(later, dtype=dtype))
    asked = pl.Series(data.draw(st.lists(st.none() | keys | st.sampled_from(known), max_size=12)), dtype=dtype)
    together = index.find(asked)
    index.place(known[0])  # prepares it for single keys
    alone = index.find(asked)
    assert alone.dtype == together.dtype
    assert alone.tolist() == together.tolist()
