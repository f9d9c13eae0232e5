import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.features import hashing

MASK = 2**64 - 1


def mix(value):
    """SplitMix64 in Python's big integers."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def string_hash(text, salt):
    content = text.encode()
    total = len(content)
    for place, start in enumerate(range(0, len(content), 8)):
        total += mix(int.from_bytes(content[start : start + 8], "little") ^ mix(place))
    return mix((mix(total & MASK) + salt) & MASK)


def test_the_hashes_are_pinned():
    """Saved models depend on these: they may never change."""
    assert hashing.hash_integers(np.array([0, 1, -1, 2**62])).tolist() == [
        16294208416658607535, 10451216379200822465, 16490336266968443936, 47939714376772075,
    ]  # fmt: skip
    assert hashing.hash_strings(pl.Series(["", "a", "12345678", "123456789", "é"])).tolist() == [
        string_hash(text, 0) for text in ["", "a", "12345678", "123456789", "é"]
    ]
    assert hashing.hash_strings(pl.Series(["", "Heat"]), salt=7).tolist() == [1300955537930879614, 5461827547052517951]
    assert hashing.combine([np.array([2, 3]), np.array([3, 2])], salt=7).tolist() == [
        16086372263932350896,
        14828460748270177400,
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), st.integers(0, MASK))
def test_strings_hash_as_the_slow_rule_says(texts, salt):
    ours = hashing.hash_strings(pl.Series(texts, dtype=pl.String), salt)
    assert ours.tolist() == [string_hash(text, salt) for text in texts]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(0, MASK))
def test_integers_hash_as_the_slow_rule_says(values, salt):
    ours = hashing.hash_integers(np.array(values, dtype=np.int64), salt)
    assert ours.tolist() == [mix((value + salt) & MASK) for value in values]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1), st.integers(0, MASK))
def test_rows_combine_as_the_slow_rule_says(pairs, salt):
    columns = [np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True)]
    expected = [mix((mix(mix((mix(salt) + first) & MASK)) + second) & MASK) for first, second in pairs]
    assert hashing.combine(columns, salt).tolist() == expected


def chi_square(ids, bins):
    counts = np.bincount(ids - 2, minlength=bins)
    assert len(counts) == bins
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum()


@pytest.mark.parametrize("salt", [0, hashing.salt_of("user_id")])
@pytest.mark.parametrize("bins", [64, 100])
def test_buckets_are_filled_evenly(bins, salt):
    """The statistic has mean bins - 1 and standard deviation sqrt(2 (bins - 1)); five of those are allowed."""
    number = np.arange(100_000)
    hashes = [
        hashing.hash_integers(number, salt),
        hashing.hash_integers(number * 1024, salt),
        hashing.hash_strings(pl.Series([f"user_{n}" for n in number]), salt),
        hashing.hash_strings(pl.Series([f"{n:06d}/a/longer/path" for n in number]), salt),
        hashing.combine([number % 300, number // 300], salt),
    ]
    for column in hashes:
        ids = hashing.bucket_ids(column, bins)
        assert ids.min() == 2
        assert chi_square(ids, bins) < (bins - 1) + 5 * np.sqrt(2 * (bins - 1))


def test_similar_strings_do_not_collide():
    texts = [f"{a}{'x' * n}{b}" for a in "abcdefgh" for b in "abcdefgh" for n in range(30)]
    texts += ["\0" * n for n in range(20)]
    assert len(set(hashing.hash_strings(pl.Series(texts)).tolist())) == len(texts)
    swapped = pl.Series(["AAAAAAAABBBBBBBB", "BBBBBBBBAAAAAAAA"])
    assert len(set(hashing.hash_strings(swapped).tolist())) == 2


def test_salts_give_unrelated_hashes_and_order_counts():
    number = np.arange(20_000)
    first, second = (hashing.hash_integers(number, hashing.salt_of(name)) % np.uint64(10) for name in ("a", "b"))
    assert abs(float((first == second).mean()) - 0.1) < 0.02
    forward, backward = hashing.combine([number, number + 1]), hashing.combine([number + 1, number])
    assert not (forward == backward).any()
