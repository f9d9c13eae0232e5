"""Lists with weights from a second column, from the table to the pooled embedding."""

import math

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

F = rr.features
FILMS = pl.DataFrame(
    {
        "film": ["a", "b", "c"],
        "genres": [["horror", "comedy"], ["comedy"], []],
        "shares": [[0.75, 0.25], [1.0], []],
    }
)


def space(films=FILMS, **options):
    kinds = {"film": F.Categorical(), "genres": F.CategoricalList(weights="shares", **options)}
    return rr.FeatureSpace(kinds).fit(films)


def test_embeddings_are_pooled_by_weight():
    fitted = space()
    genres = fitted.transform(FILMS)["genres"]
    table = rr.EmbeddingTable(fitted.schema["genres"], 4)
    horror, comedy = genres.to_lists()[0]
    expected = 0.75 * table.weight[horror] + 0.25 * table.weight[comedy]
    torch.testing.assert_close(table(genres), torch.stack([expected, table.weight[comedy], torch.zeros(4)]))


ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6, width=32)), max_size=4), min_size=1, max_size=6
)


@given(ROWS)
def test_every_key_keeps_its_weight(rows):
    films = pl.DataFrame(
        {
            "genres": [[key for key, _ in row] for row in rows],
            "shares": [[weight for _, weight in row] for row in rows],
        },
        schema={"genres": pl.List(pl.String), "shares": pl.List(pl.Float64)},
    )
    kinds = {"genres": F.CategoricalList(weights="shares")}
    fitted = rr.FeatureSpace(kinds).fit(pl.DataFrame({"genres": [["a", "b", "c"]], "shares": [[1, 1, 1]]}))
    made = fitted.transform(films)["genres"]
    plain = rr.FeatureSpace({"genres": F.CategoricalList()}).fit(pl.DataFrame({"genres": [["a", "b", "c"]]}))
    assert made.to_lists() == plain.transform(films)["genres"].to_lists()
    assert made.weights.tolist() == [weight for row in rows for _, weight in row]


def test_files_loaders_and_bundles_keep_them(tmp_path):
    FILMS.write_parquet(tmp_path / "films.parquet")
    fitted = space(tmp_path / "films.parquet")
    assert fitted.columns(["genres"]) == ["genres", "shares"]
    fitted.save(tmp_path / "space")
    again = rr.FeatureSpace.load(tmp_path / "space")
    for streaming in (False, True):
        batches = list(again.loader(tmp_path / "films.parquet", 2, streaming=streaming))
        assert torch.cat([batch["genres"].weights for batch in batches]).tolist() == [0.75, 0.25, 1.0]
    assert again.catalogue(FILMS, "film").batch["genres"].weights.tolist() == [0.75, 0.25, 1.0]
    assert list(again.catalogue(FILMS.drop("shares"), "film").batch.names) == ["film"]


@pytest.mark.parametrize(
    ("shares", "row", "message"),
    [
        ([[0.75], [1.0], []], 0, "expected 2 weights, one a key, got 1"),
        ([[0.75, 0.25], [-1.0], []], 1, "at least 0, got -1"),
        ([[0.75, 0.25], [math.nan], []], 1, "finite number, got nan"),
        ([[0.75, 0.25], [None], []], 1, "got null"),
        ([[0.75, 0.25], None, []], 1, "got null"),
        ([[0.75, 0.25], [1e300], []], 1, "float32"),
    ],
)
def test_bad_weights_are_named_with_their_row(shares, row, message):
    films = FILMS.with_columns(shares=pl.Series(shares, dtype=pl.List(pl.Float64)))
    with pytest.raises(rr.errors.DataError, match=message) as caught:
        space().transform(films)
    assert (caught.value.row, "column 'shares'" in str(caught.value)) == (row, True)


def test_other_columns_are_refused():
    with pytest.raises(rr.errors.DataError, match="'shares'"):
        space(FILMS.drop("shares"))
    with pytest.raises(rr.errors.DataError, match="lists of numbers, got Float64"):
        space().transform(FILMS.with_columns(shares=1.0))
    with pytest.raises(rr.errors.DataError, match="String"):
        space().transform(FILMS.with_columns(shares=pl.Series([["x", "y"], ["z"], []])))


def test_a_null_list_is_empty_where_nulls_are_unknown():
    films = FILMS.with_columns(
        genres=pl.Series([["horror", None], ["comedy"], None]), shares=pl.Series([[0.75, 0.25], [1.0], None])
    )
    made = space(films, nulls="unknown").transform(films)["genres"]
    assert made.lengths().tolist() == [2, 1, 0]
    assert made.values[1] == 1
    assert made.weights.tolist() == [0.75, 0.25, 1.0]


def recommender():
    views = pl.DataFrame({"user": ["u", "v", "u"], "film": ["a", "b", "c"]})
    views = views.join(FILMS, on="film")
    kinds = {"user": F.Categorical(), "film": F.Categorical(), "genres": F.CategoricalList(weights="shares")}
    fitted = rr.FeatureSpace(kinds).fit(views)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(fitted, ["user"], layers=[4]), rr.models.Tower(fitted, ["film", "genres"], layers=[4]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    model.fit(fitted.loader(views, 3), optimizer=rr.optim.LazyAdam(0.01), epochs=1, progress=False)
    catalogue = fitted.catalogue(FILMS, "film")  # without what the table lacks
    made = rr.Recommender(retrieval=model, space=fitted, catalogue=FILMS, history=views, queries=views)
    return model, catalogue, made


def test_a_recommender_scores_weighted_candidates(tmp_path):
    model, catalogue, made = recommender()
    vectors = dict(zip(catalogue.keys, model.embed_candidates(catalogue.batch), strict=True))
    (query,) = model.embed_queries(made.space.transform(pl.DataFrame({"user": ["v"]}), ["user"]))
    made.save(tmp_path / "bundle")
    for served in (made, rr.Recommender.load(tmp_path / "bundle")):
        found = served.recommend({"user": "v"}, k=2)
        expected = {film: float(vectors[film] @ query) for film in ("a", "c")}
        assert dict(zip(found["film"], found["score"], strict=True)) == pytest.approx(expected, abs=1e-5)
