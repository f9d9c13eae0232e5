"""Lists that CSV files hold as text."""

import warnings

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankWarning

LISTS = [["drama", "war"], [], ["drama"], ["sci fi"]]


def fitted(values, **options):
    kind = rr.features.CategoricalList(**options)
    return rr.FeatureSpace({"genres": kind}).fit(pl.DataFrame({"genres": values}))


@pytest.mark.parametrize("separator", ["|", ",", ";", " / ", "||", ".*"])
def test_text_with_a_separator_is_the_list_it_stands_for(separator):
    texts = [separator.join(keys) for keys in LISTS]
    of_lists, of_texts = fitted(LISTS), fitted(texts, separator=separator)
    assert of_texts.vocabulary("genres").keys.equals(of_lists.vocabulary("genres").keys)
    wanted = of_lists.transform(pl.DataFrame({"genres": LISTS}))["genres"].to_lists()
    for values in (texts, LISTS):
        assert of_texts.transform(pl.DataFrame({"genres": values}))["genres"].to_lists() == wanted
    as_categories = pl.DataFrame({"genres": pl.Series(texts, dtype=pl.Categorical)})
    assert of_texts.transform(as_categories)["genres"].to_lists() == wanted


@given(
    st.lists(
        st.lists(st.text("ab c", min_size=1).map(str.strip).filter(bool), max_size=4), min_size=1, max_size=6
    ).filter(any)
)
def test_spaces_around_keys_and_empty_keys_are_left_out(lists):
    texts = [" |".join(["", *keys, " "]) for keys in lists]
    values = fitted(texts, separator="|").transform(pl.DataFrame({"genres": texts}))["genres"]
    space = fitted(pl.Series(lists, dtype=pl.List(pl.String)))
    assert (
        values.to_lists()
        == space.transform(pl.DataFrame({"genres": lists}, schema=space_schema()))["genres"].to_lists()
    )


def space_schema():
    return {"genres": pl.List(pl.String)}


def test_nulls_and_texts_without_a_separator():
    with pytest.raises(DataError, match=r"'genres', row 1: expected no nulls"):
        fitted(["a|b", None], separator="|")
    space = fitted(["a|b", "a", None], separator="|", nulls="unknown")
    assert space.transform(pl.DataFrame({"genres": [None, "b"]}))["genres"].to_lists() == [[], [3]]
    with pytest.raises(DataError, match=r"'genres': expected lists of keys, got String.*separator='\|'"):
        fitted(["a|b"])
    for wrong in ("", 3):
        with pytest.raises(ConfigError, match="separator"):
            rr.features.CategoricalList(separator=wrong)


def test_a_separator_is_saved_and_served(tmp_path):
    plays = pl.DataFrame({"user": ["a", "b", "c"], "song": ["x", "y", "x"], "tags": ["p|q", "q", ""]})
    kinds = {name: rr.features.Categorical() for name in ("user", "song")}
    space = rr.FeatureSpace({**kinds, "tags": rr.features.CategoricalList(separator="|")}).fit(plays)
    space.save(tmp_path / "space")
    again = rr.FeatureSpace.load(tmp_path / "space")
    assert again.transform(plays)["tags"].to_lists() == space.transform(plays)["tags"].to_lists() == [[3, 2], [2], []]
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "tags"], layers=[4]),
        rr.models.Tower(space, ["song"], layers=[4]),
        rr.tasks.Retrieval(),
    )
    songs = pl.DataFrame({"song": ["x", "y"]})
    recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
    one, other = (recommender.recommend({"user": "new", "tags": tags}) for tags in ("p|q", "q"))
    assert one["score"].to_list() != other["score"].to_list()


@pytest.mark.parametrize(
    ("texts", "separator"),
    [(["Action|Comedy", "Drama"], "|"), (["rock;pop"] * 3, ";"), (["rock,pop", "pop"], ","), (["Sci-Fi | War"], "|")],
)
def test_text_warns_of_lists(texts, separator):
    with pytest.warns(RetrankWarning, match=rf"'genres'.*CategoricalList\(separator='\{separator}'\)"):
        rr.FeatureSpace({"genres": rr.features.Text()}).fit(pl.DataFrame({"genres": texts}))


def test_text_is_silent_about_texts():
    titles = ["Heat (1995)", "Good, the Bad and the Ugly, The", "20,000 Leagues", "What? No; yes", "Alien|Aliens"] * 20
    titles = [*titles, *["Big"] * 200]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rr.FeatureSpace({"title": rr.features.Text()}).fit(pl.DataFrame({"title": titles}))
