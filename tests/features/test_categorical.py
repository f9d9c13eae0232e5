import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, NotFittedError, RetrankWarning

F = rr.features


def fit(kind, column):
    return rr.FeatureSpace({"f": kind}).fit(pl.DataFrame({"f": column}))


def lists(column):
    return pl.DataFrame({"f": pl.Series(column, dtype=pl.List(pl.String))})


def test_rare_keys_become_unknown():
    space = fit(F.Categorical(min_count=2), ["a", "b", "b", "c", "c", "c"])
    assert space.vocabulary("f").keys.to_list() == ["c", "b"]
    assert space.transform(pl.DataFrame({"f": ["a", "b", "c"]}))["f"].tolist() == [1, 3, 2]
    assert space.schema["f"].num_ids == 4


def test_max_size_keeps_the_most_frequent():
    space = fit(F.Categorical(max_size=1), ["a", "b", "b"])
    assert space.vocabulary("f").keys.to_list() == ["b"]


def test_nulls_are_refused_or_unknown():
    with pytest.raises(DataError, match=r"column 'f', row 1: expected no nulls"):
        fit(F.Categorical(), ["a", None])
    space = fit(F.Categorical(nulls="unknown"), ["a", None, "a"])
    assert space.vocabulary("f").counts.tolist() == [2]
    assert space.transform(pl.DataFrame({"f": [None, "a"]}))["f"].tolist() == [1, 2]
    assert space.transform(pl.DataFrame({"f": [None]}))["f"].tolist() == [1]
    strict = fit(F.Categorical(), ["a"])
    with pytest.raises(DataError, match=r"column 'f', row 0: expected no nulls"):
        strict.transform(pl.DataFrame({"f": [None]}))


@pytest.mark.parametrize("kind", [F.Categorical(), F.Hashed(10)])
@pytest.mark.parametrize(
    ("fitted", "given", "words"),
    [
        (["a"], [1], "string keys.*integer keys"),
        ([1], ["1"], "integer keys.*string keys"),
        ([1], [True], "integer keys.*boolean keys"),
        ([1], [1.0], "strings, integers or booleans, got Float64"),
        (["a"], [["a"]], "strings, integers or booleans, got List"),
    ],
)
def test_keys_of_another_type_are_refused(kind, fitted, given, words):
    space = fit(kind, fitted)
    with pytest.raises(DataError, match=rf"column 'f'.*{words}"):
        space.transform(pl.DataFrame({"f": given}))


def test_no_key_is_frequent_enough():
    with pytest.raises(DataError, match=r"feature 'f', column 'f'.*at least 3 times"):
        fit(F.Categorical(min_count=3), ["a", "b"])


@pytest.mark.parametrize(
    "build",
    [
        lambda: F.Categorical(min_count=0),
        lambda: F.Categorical(max_size=0),
        lambda: F.Categorical(max_size=True),
        lambda: F.Categorical(nulls="drop"),
        lambda: F.CategoricalList(min_count=1.5),
        lambda: F.Hashed(0),
        lambda: F.Hashed("10"),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(ConfigError):
        build()


def test_grow_respects_min_count_and_warns_at_max_size():
    space = fit(F.Categorical(min_count=2, max_size=3), ["a", "a"])
    with pytest.warns(RetrankWarning, match=r"feature 'f'.*max_size=3 leaves 1 new keys unknown"):
        space.grow(pl.DataFrame({"f": ["b", "b", "b", "c", "d", "d", "e", "e"]}))
    assert space.vocabulary("f").keys.to_list() == ["a", "b", "e"]


KEY_LISTS = st.lists(st.lists(st.sampled_from(["x", "y", "z"]), max_size=4), min_size=1, max_size=8)


@given(KEY_LISTS)
def test_lists_keep_their_rows(rows):
    if not any(rows):
        rows = [*rows, ["x"]]
    space = rr.FeatureSpace({"f": F.CategoricalList()}).fit(lists(rows))
    place = {key: number + 2 for number, key in enumerate(space.vocabulary("f").keys)}
    assert space.transform(lists(rows))["f"].to_lists() == [[place[key] for key in row] for row in rows]


def test_lists_of_any_form():
    space = fit(F.CategoricalList(), [["a", "b"], ["a"]])
    assert space.schema["f"].is_jagged
    assert space.transform(lists([["new", "b"], []]))["f"].to_lists() == [[1, 3], []]
    arrays = pl.DataFrame({"f": pl.Series([["b", "a"]], dtype=pl.Array(pl.String, 2))})
    assert space.transform(arrays)["f"].to_lists() == [[3, 2]]
    assert space.transform(lists([]))["f"].to_lists() == []
    assert space.transform(lists([[]]))["f"].values.dtype == torch.int64
    numbers = fit(F.CategoricalList(), [[5, 5], [6]])
    assert numbers.transform(pl.DataFrame({"f": [[6, 5]]}))["f"].to_lists() == [[3, 2]]


def test_nulls_in_lists():
    with pytest.raises(DataError, match=r"column 'f', row 1: expected no nulls"):
        rr.FeatureSpace({"f": F.CategoricalList()}).fit(lists([["a"], None]))
    with pytest.raises(DataError, match=r"column 'f', row 2: expected no null in a list"):
        rr.FeatureSpace({"f": F.CategoricalList()}).fit(lists([["a", "b"], [], ["c", None]]))
    space = rr.FeatureSpace({"f": F.CategoricalList(nulls="unknown")}).fit(lists([["a", None], None]))
    assert space.vocabulary("f").keys.to_list() == ["a"]
    assert space.transform(lists([None, ["a", None], []]))["f"].to_lists() == [[], [2, 1], []]


@pytest.mark.parametrize("column", [["a"], [[["a"]]], [1]])
def test_only_flat_lists(column):
    with pytest.raises(DataError, match="'f'"):
        fit(F.CategoricalList(), column)


def test_hashed_ids_are_stable_salted_and_in_range():
    table = pl.DataFrame({"f": [f"key{n}" for n in range(500)]})
    space = rr.FeatureSpace({"a": F.Hashed(50, column="f"), "b": F.Hashed(50, column="f")}).fit(table)
    batch = space.transform(table)
    assert batch["a"].min() == 2
    assert batch["a"].max() == 51
    assert space.schema["a"].num_ids == 52
    assert (batch["a"] == batch["b"]).float().mean() < 0.1
    assert batch["a"][:5].tolist() == [23, 19, 28, 31, 9]
    one = space.transform(table[7:8])
    assert one["a"].item() == batch["a"][7].item()


def test_hashed_accepts_integers_booleans_and_nulls():
    numbers = fit(F.Hashed(7, nulls="unknown"), [1, None, 1, 2])
    ids = numbers.transform(pl.DataFrame({"f": [1, None, 1, 2]}))["f"].tolist()
    assert ids[1] == 1
    assert ids[0] == ids[2] >= 2
    texts = fit(F.Hashed(7, nulls="unknown"), ["", None])
    assert texts.transform(pl.DataFrame({"f": [None, ""]}))["f"].tolist()[0] == 1
    assert fit(F.Hashed(7), [True, False]).transform(pl.DataFrame({"f": [True]}))["f"].item() >= 2
    with pytest.raises(DataError, match=r"column 'f', row 1"):
        fit(F.Hashed(7), ["a", None])


def test_a_kind_alone_says_that_it_is_not_fitted():
    for kind in (F.Categorical(), F.CategoricalList(), F.Text(), F.Hashed(3)):
        with pytest.raises(NotFittedError, match=r"call FeatureSpace.fit first"):
            kind.transform(pl.Series(["a"]), "f")
