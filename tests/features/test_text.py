import re
import string
from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError

F = rr.features


def words(text):
    return "".join(c for c in text.lower() if c not in string.punctuation).split()


TITLES = st.lists(
    st.text(st.sampled_from([*"abAB12", *string.punctuation, " ", "\t", "\n"]), max_size=12), min_size=1, max_size=10
)


@pytest.mark.filterwarnings("ignore:column 't' looks like lists")  # as some texts of chance do
@given(TITLES, st.integers(1, 3))
def test_texts_are_cleaned_split_counted_and_cut(titles, max_length):
    titles = [*titles, "word"]
    table = pl.DataFrame({"t": titles})
    space = rr.FeatureSpace({"t": F.Text(max_tokens=6, max_length=max_length)}).fit(table)
    counts = Counter(word for title in titles for word in words(title))
    kept = sorted(counts, key=lambda word: (counts[word], word), reverse=True)[:4]
    assert space.vocabulary("t").keys.to_list() == kept
    expected = [[kept.index(w) + 2 if w in kept else 1 for w in words(title)[:max_length]] for title in titles]
    assert space.transform(table)["t"].to_lists() == expected


def test_every_ascii_punctuation_is_removed_and_nothing_else():
    space = rr.FeatureSpace({"t": F.Text()}).fit(pl.DataFrame({"t": [f"a{string.punctuation}b Ünï—c\u3000ß"]}))
    assert set(space.vocabulary("t").keys) == {"ab", "ünï—c", "ß"}
    assert len(re.findall(r"[^\w\s]", string.punctuation)) == 31  # all 32 but the underscore


def test_nulls():
    table = pl.DataFrame({"t": ["a", None]})
    with pytest.raises(DataError, match=r"column 't', row 1: expected no nulls"):
        rr.FeatureSpace({"t": F.Text()}).fit(table)
    assert rr.FeatureSpace({"t": F.Text(nulls="unknown")}).fit(table).transform(table)["t"].to_lists() == [[2], []]


def test_bad_input():
    with pytest.raises(DataError, match=r"column 't': expected texts, got Int64"):
        rr.FeatureSpace({"t": F.Text()}).fit(pl.DataFrame({"t": [1]}))
    with pytest.raises(DataError, match="feature 't'"):
        rr.FeatureSpace({"t": F.Text()}).fit(pl.DataFrame({"t": ["!?", ""]}))
    for build in (lambda: F.Text(max_tokens=2), lambda: F.Text(max_length=0), lambda: F.Text(nulls="skip")):
        with pytest.raises(ConfigError, match="Text"):
            build()
