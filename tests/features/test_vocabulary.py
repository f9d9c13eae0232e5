from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import DataError, StorageError

Vocabulary = rr.features.Vocabulary
KEYS = st.lists(st.sampled_from(["a", "b", "B", "é", "z", "", "aa", "日本"]), min_size=1, max_size=30)


@given(KEYS)
def test_order_is_count_then_key_both_descending(keys):
    vocabulary = Vocabulary.count(pl.Series("key", keys))
    expected = sorted(Counter(keys).items(), key=lambda item: (item[1], item[0]), reverse=True)
    assert list(zip(vocabulary.keys.to_list(), vocabulary.counts.tolist(), strict=True)) == expected


@given(KEYS, st.lists(st.sampled_from(["a", "é", "new", None])))
def test_ids_and_keys_are_inverse_and_unknown_is_1(keys, queries):
    vocabulary = Vocabulary.count(pl.Series("key", keys))
    order = vocabulary.keys.to_list()
    expected = [order.index(query) + 2 if query in order else 1 for query in queries]
    ids = vocabulary.ids(pl.Series("key", queries, dtype=pl.String))
    assert ids.dtype == torch.int64
    assert ids.tolist() == expected
    assert vocabulary.keys_of(ids).to_list() == [query if query in order else None for query in queries]


@pytest.mark.parametrize("as_text", [True, False])
def test_few_and_many_keys_are_looked_up_alike(as_text):
    rng = np.random.default_rng(0)
    numbers = rng.permutation(40_000)[:10_000] - 20_000
    queries = rng.integers(-20_000, 20_000, size=3_000)
    place = {number: row for row, number in enumerate(numbers.tolist())}
    convert = (lambda values: [f"k{value}" for value in values]) if as_text else list
    index = rr.data.KeyIndex(pl.Series("key", convert(numbers.tolist())))
    series = pl.Series("key", convert(queries.tolist()))
    many = index.find(series)
    assert many.tolist() == [place.get(query, -1) for query in queries.tolist()]
    few = np.concatenate([index.find(series[start : start + 100]) for start in range(0, 3_000, 100)])
    assert few.tolist() == many.tolist()


def test_nulls_are_found_nowhere_by_either_road():
    index = rr.data.KeyIndex(pl.Series("key", [5, 3]))
    assert index.find(pl.Series([3, None])).tolist() == [1, -1]
    assert index.find(pl.Series([3, None] * 200)).tolist() == [1, -1] * 200


@pytest.mark.parametrize(
    ("keys", "queries", "expected"),
    [
        ([7, 7, -1], [-1, 7, 0], [3, 2, 1]),
        ([True, True, False], [False, True], [3, 2]),
        ([True, True], [False, True], [1, 2]),
    ],
)
def test_integers_and_booleans_are_keys(keys, queries, expected):
    assert Vocabulary.count(pl.Series(keys)).ids(pl.Series(queries)).tolist() == expected


def test_every_integer_width_and_every_text_type_is_one_key_type():
    numbers = Vocabulary.count(pl.Series([5, 6], dtype=pl.UInt8))
    assert numbers.ids(pl.Series([6], dtype=pl.Int32)).tolist() == [2]
    texts = Vocabulary.count(pl.Series(["x", "y"], dtype=pl.Categorical))
    assert texts.ids(pl.Series(["y"], dtype=pl.Enum(["y"]))).tolist() == [2]


def test_grow_keeps_every_id_and_adds_counts():
    old = Vocabulary.count(pl.Series("film", ["b", "b", "a"]))
    new = old.grow(pl.Series("film", ["d", "a", "c", "c", None, "a"]))
    assert new.keys.to_list() == ["b", "a", "c", "d"]
    assert new.counts.tolist() == [2, 3, 2, 1]
    assert old.keys.to_list() == ["b", "a"]
    assert old.counts.tolist() == [2, 1]


@given(KEYS, KEYS)
def test_grow_renumbers_nothing(first, second):
    old = Vocabulary.count(pl.Series("key", first))
    new = old.grow(pl.Series("key", second))
    assert new.ids(old.keys).tolist() == old.ids(old.keys).tolist()
    assert set(new.keys) == set(first) | set(second)
    assert new.counts.sum() == len(first) + len(second)
    assert new.num_ids == len(set(first) | set(second)) + 2


def test_save_and_load(tmp_path):
    for keys in (["x", "", "日本", "x"], [3, -4, 3], [True, False]):
        vocabulary = Vocabulary.count(pl.Series("key", keys))
        vocabulary.save(tmp_path / "v.parquet")
        loaded = Vocabulary.load(tmp_path / "v.parquet")
        assert loaded.keys.equals(vocabulary.keys)
        assert loaded.counts.tolist() == vocabulary.counts.tolist()
        assert loaded.key_type == vocabulary.key_type


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "v.parquet"
    Vocabulary.count(pl.Series("key", ["x"])).save(file)
    content = file.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"PAR1" + b"\0" * 40):
        file.write_bytes(damaged)
        with pytest.raises(StorageError, match="v.parquet"):
            Vocabulary.load(file)
    pl.DataFrame({"key": ["a", "a"], "count": [1, 1]}).write_parquet(file)
    with pytest.raises(StorageError, match="v.parquet"):
        Vocabulary.load(file)
    pl.DataFrame({"other": ["a"]}).write_parquet(file)
    with pytest.raises(StorageError, match="v.parquet"):
        Vocabulary.load(file)
    with pytest.raises(StorageError, match="nothing.parquet"):
        Vocabulary.load(tmp_path / "nothing.parquet")


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"column 'film', row 2: expected distinct keys"):
        Vocabulary(pl.Series("film", ["a", "b", "a"]), [1, 1, 1])
    with pytest.raises(DataError, match=r"column 'film', row 1: expected no nulls"):
        Vocabulary(pl.Series("film", ["a", None]), [1, 1])
    with pytest.raises(DataError, match="2 counts"):
        Vocabulary(pl.Series("film", ["a", "b"]), [1])
    with pytest.raises(DataError, match=r"column 'film'.*expected string keys.*got integer keys"):
        Vocabulary.count(pl.Series(["a"])).ids(pl.Series("film", [1]))
    with pytest.raises(DataError, match=r"column 'price'.*Float64"):
        Vocabulary.count(pl.Series("price", [1.5]))
    with pytest.raises(DataError, match=r"column 'film'.*2\*\*63.*18446744073709551615"):
        Vocabulary.count(pl.Series("film", [2**64 - 1], dtype=pl.UInt64))
    with pytest.raises(DataError, match=r"ids, row 1.*got 9"):
        Vocabulary.count(pl.Series(["a"])).keys_of(torch.tensor([2, 9]))


def test_repr_shows_the_first_keys():
    assert repr(Vocabulary.count(pl.Series(["a"]))) == "Vocabulary(1 string keys: 'a')"
    assert repr(Vocabulary.count(pl.Series([4, 3, 2, 1]))) == "Vocabulary(4 integer keys: 4, 3, 2, ...)"
