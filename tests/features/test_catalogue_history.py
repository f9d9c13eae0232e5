import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankWarning

F = rr.features


def catalogue_of(keys):
    films = pl.DataFrame({"film": keys, "year": list(range(len(keys)))})
    return rr.FeatureSpace({"film": F.Categorical(), "year": F.Passthrough()}).fit(films).catalogue(films, key="film")


def test_a_catalogue_has_keys_features_and_rows():
    views = pl.DataFrame({"user": ["u"], "film": ["b"], "year": [2000]})
    space = rr.FeatureSpace({"user": F.Categorical(), "film": F.Categorical(), "year": F.Passthrough()}).fit(views)
    films = pl.DataFrame({"film": ["a", "b", "c"], "year": [1, 2, 3], "nested": [{"x": 1}] * 3})
    catalogue = space.catalogue(films, key="film")
    assert len(catalogue) == 3
    assert catalogue.key == "film"
    assert catalogue.keys.dtype == object
    assert catalogue.keys.tolist() == ["a", "b", "c"]
    assert catalogue.batch.names == ("film", "year")
    assert catalogue.batch["film"].tolist() == [1, 2, 1]
    assert catalogue.rows(np.array(["c", "zz", "a"], dtype=object)).tolist() == [2, -1, 0]
    assert catalogue.rows(pl.Series([None, "b"])).tolist() == [-1, 1]
    assert catalogue.rows([]).tolist() == []
    assert space.catalogue(films, key="film", features=["year"]).batch.names == ("year",)
    assert repr(catalogue) == "Catalogue(3 candidates by 'film', features ['film', 'year'])"


def test_keys_may_be_integers_and_come_from_any_column():
    films = pl.DataFrame({"id": [30, 10], "title": ["x", "y"]})
    space = rr.FeatureSpace({"name": F.Categorical(column="title")}).fit(films)
    by_id = space.catalogue(films, key="id")
    assert by_id.keys.dtype == np.int64
    assert by_id.rows(np.array([10, 11])).tolist() == [1, -1]
    by_feature = space.catalogue(films, key="name")
    assert by_feature.keys.tolist() == ["x", "y"]
    assert by_feature.batch["name"].tolist() == [3, 2]


def test_bad_catalogues_are_refused():
    with pytest.raises(DataError, match=r"column 'film', row 2: expected distinct keys, got 'a' again"):
        catalogue_of(["a", "b", "a"])
    space = rr.FeatureSpace({"year": F.Passthrough()}).fit(pl.DataFrame({"year": [1]}))
    with pytest.raises(DataError, match=r"column 'film', row 0: expected no nulls"):
        space.catalogue(pl.DataFrame({"film": pl.Series([None], dtype=pl.String), "year": [1]}), key="film")
    with pytest.raises(DataError, match="'films'"):
        space.catalogue(pl.DataFrame({"film": ["a"], "year": [1]}), key="films")
    with pytest.raises(ConfigError, match="'month'"):
        space.catalogue(pl.DataFrame({"film": ["a"], "year": [1]}), key="film", features=["month"])
    with pytest.raises(DataError, match="2 keys, got 1"):
        F.Catalogue(["a"], rr.Batch({"x": torch.zeros(2)}), "film")
    with pytest.raises(DataError, match="expected string keys.*got integer keys"):
        catalogue_of(["a"]).rows([1] * 100)
    with pytest.raises(DataError, match="keys of one type"):
        catalogue_of(["a"]).rows(["a", 1] * 50)
    for few in ([1], ["a", 1]):
        with pytest.raises(DataError, match="expected a string key, got 1"):
            catalogue_of(["a"]).rows(few)


def test_a_bundle_refers_to_space_and_catalogue_by_name():
    assert rr.core.to_config(catalogue_of(["a"])) == {"type": "context", "name": "catalogue"}
    space = rr.FeatureSpace({"year": F.Passthrough()})
    assert rr.core.from_config(rr.core.to_config({"space": space}), space=space)["space"] is space


INTERACTIONS = st.lists(st.tuples(st.sampled_from("uvwx"), st.integers(0, 5)), min_size=1, max_size=40)


@given(INTERACTIONS, st.permutations(range(6)))
def test_history_holds_the_distinct_rows_of_each_query(interactions, order):
    catalogue = catalogue_of(order)
    table = pl.DataFrame(interactions, schema=["user", "film"], orient="row")
    history = F.History(table, catalogue, query="user")
    seen = {user: {order.index(film) for other, film in interactions if other == user} for user in "uvwx"}
    asked = ["x", "nobody", "u", "u", "w"]
    assert history[asked].to_lists() == [sorted(seen.get(user, ())) for user in asked]
    assert history.counts.tolist() == [sum(row in rows for rows in seen.values()) for row in range(6)]
    queries, rows = history.matrix()
    pairs = {(history.queries[query], row) for query, row in zip(queries.tolist(), rows.tolist(), strict=True)}
    assert pairs == {(user, row) for user, rows_of in seen.items() for row in rows_of}
    assert len(pairs) == len(queries)
    assert len(history) == len(history.queries) == len({user for user, _ in interactions})


def test_history_takes_keys_of_any_form():
    views = pl.DataFrame({"user": [7, 9], "seen": ["a", "b"]})
    history = F.History(views, catalogue_of(["b", "a"]), query="user", candidate="seen")
    assert history[pl.Series([9, None, 7])].to_lists() == [[0], [], [1]]
    assert history[np.array([7])].to_lists() == [[1]]
    assert history.queries.tolist() == [7, 9]
    assert repr(history) == "History(2 queries, 2 distinct interactions)"
    with pytest.raises(DataError, match="expected integer keys.*got string keys"):
        history[["7"]]


def test_candidates_outside_of_the_catalogue_are_left_out_with_a_warning():
    views = pl.DataFrame({"user": ["u", "u", "v"], "film": ["a", "gone", "gone"]})
    with pytest.warns(RetrankWarning, match=r"column 'film': 2 of 3 interactions"):
        history = F.History(views, catalogue_of(["a"]), query="user")
    assert history[["u", "v"]].to_lists() == [[0], []]
    assert history.queries.tolist() == ["u", "v"]
    assert history.counts.tolist() == [1]


def test_bad_histories_are_refused():
    catalogue = catalogue_of(["a"])
    with pytest.raises(DataError, match=r"column 'user', row 1: expected no nulls"):
        F.History(pl.DataFrame({"user": ["u", None], "film": ["a", "a"]}), catalogue, query="user")
    with pytest.raises(DataError, match=r"column 'film', row 0: expected no nulls"):
        F.History(pl.DataFrame({"user": ["u"], "film": pl.Series([None], dtype=pl.String)}), catalogue, query="user")
    with pytest.raises(DataError, match=r"column 'film'.*expected string keys.*got integer"):
        F.History(pl.DataFrame({"user": ["u"], "film": [1]}), catalogue, query="user")
    with pytest.raises(DataError, match="a column 'film'"):
        F.History(pl.DataFrame({"user": ["u"]}), catalogue, query="user")
