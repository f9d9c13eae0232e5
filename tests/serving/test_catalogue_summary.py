"""Titles and conditions that are guessed from a catalogue."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.recommender.conditions import condition
from retrank.serving.catalogue_summary import CatalogueSummary


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["movie_title", "title"], "title"),
        (["artist", "Name"], "Name"),
        (["film-title", "file_name"], "film-title"),
        (["entitled", "renamed"], None),
        ([], None),
    ],
)
def test_the_title_is_the_column_that_sounds_like_one(names, title):
    table = pl.DataFrame({"id": [1, 2], "title_length": [3, 4]} | {name: ["x", "y"] for name in names})
    assert CatalogueSummary.of(table, "id").title == title


@pytest.mark.parametrize(
    ("values", "conditions"),
    [
        ([1, 5, 9], ("c >= 5",)),
        ([0.12345, 7.0], ("c >= 3.562",)),
        (["it's", "it's", "b", "b", "a"], ()),
        (["it's", "it's", "b", "it's"], ("c = 'it''s'",)),
        ([True, False], ("c = TRUE",)),
        ([["a", "b"], ["a"], None, ["a"]], ("array_contains(c, 'a')",)),
        ([None, None], ()),
        ([3, 3, 3], ()),
    ],
)
def test_examples_of_each_kind_of_column(values, conditions):
    assert CatalogueSummary.of(pl.DataFrame({"id": range(len(values)), "c": values}), "id").conditions == conditions


cells = st.sampled_from(["a", "it's", '"', "\\", "%", "", "ü", "';--", "/*", "x" * 41])


@given(
    st.text(min_size=1, max_size=6).filter(lambda name: name != "id"),
    st.lists(cells | st.none(), min_size=1, max_size=12),
)
def test_every_example_is_true_for_some_candidates(name, values):
    table = pl.DataFrame({"id": range(len(values)), name: pl.Series(values, dtype=pl.String)})
    for text in CatalogueSummary.of(table, "id").conditions:
        assert table.filter(condition(text, "where")).height


def test_groups_are_the_columns_whose_values_are_shared():
    table = {
        "id": range(4), "text": ["a", "a", "b", "b"], "own": list("abcd"), "lists": [["x"], ["x", "y"], ["y"], None],
        "year": [1, 1, 1, None],
        "number": [1, 2, 3, 4], "size": [1.0, 1.0, 1.0, 1.0], "flag": [True, False, True, True],
        "empty": pl.Series([None] * 4, dtype=pl.Int64),
    }  # fmt: skip
    assert CatalogueSummary.of(pl.DataFrame(table), "id").groups == ("text", "lists", "year", "flag")
