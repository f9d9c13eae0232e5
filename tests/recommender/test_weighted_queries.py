"""Lists with weights as features of queries: stored, brought, saved, and the same alone and among others."""

import polars as pl
import pytest
import torch

import retrank as rr

F = rr.features
FILMS = pl.DataFrame({"film": list("abcdef"), "genre": list("xyzxyz")})
TASTES = pl.DataFrame(
    {
        "user": ["u", "v", "w", "empty"],
        "tastes": [["x", "y"], ["z"], ["y", "x", "z"], []],
        "much": [[0.9, 0.1], [2.0], [0.0, 0.5, 1.5], []],
    }
)
EVENTS = pl.DataFrame({"user": ["u", "v", "w", "empty", "u", "v"], "film": list("abcdef"), "time": [1, 2, 3, 4, 5, 6]})
RULES = {"k": 6, "exclude_seen": False}


def built(ranking=False, **options):
    events = EVENTS.join(TASTES, on="user").join(FILMS, on="film")
    kinds = {"user": F.Categorical(), "film": F.Categorical(), "genre": F.Categorical()}
    space = rr.FeatureSpace({**kinds, "tastes": F.CategoricalList(weights="much", **options)}).fit(events)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["tastes"], layers=[8, 4]), rr.models.Tower(space, ["film", "genre"], layers=[4]),
        rr.tasks.Retrieval(), query_id="user",
    )  # fmt: skip
    model.fit(space.loader(events, 6), optimizer=rr.optim.LazyAdam(0.05), epochs=3, progress=False)
    ranker = None
    if ranking:
        schema = space.schema
        tables = {name: rr.EmbeddingTable(schema[name], 4) for name in ("tastes", "genre")}
        ranker = rr.models.dcn_v2(rr.EmbeddingCollection(tables), layers=[4])
    made = rr.Recommender(retrieval=model, space=space, catalogue=FILMS, history=EVENTS, queries=TASTES, ranking=ranker)
    return model, made


def expected_scores(model, space, table):
    queries = model.embed_queries(space.transform(table, ["tastes"]))
    return queries @ model.embed_candidates(space.catalogue(FILMS, "film").batch).T


ASKED = pl.DataFrame(
    {
        "user": ["u", "v", "new", "w", "other"],
        "tastes": [None, ["x", "z"], ["y"], [], ["unheard", "x"]],
        "much": [None, [0.25, 4.0], [1.0], [], [3.0, 1.0]],
    }
)


def test_stored_and_brought_lists_are_pooled_by_their_weights():
    model, made = built()
    whole = ASKED.with_columns(
        tastes=pl.when(pl.col("user") == "u").then(pl.lit(["x", "y"])).otherwise("tastes"),
        much=pl.when(pl.col("user") == "u").then(pl.lit([0.9, 0.1])).otherwise("much"),
    )
    scores = expected_scores(model, made.space, whole)
    many = made.recommend_many(ASKED, **RULES)
    assert set(many.filter(user="w")["stage"]) == {"popularity"}  # brings an empty list, and nothing else is read
    for row, user in enumerate(ASKED["user"]):
        if user == "w":
            continue
        found = many.filter(user=user)
        assert set(found["stage"]) == {"retrieval"}
        own = dict(zip(FILMS["film"], scores[row].tolist(), strict=True))
        assert dict(zip(found["film"], found["score"], strict=True)) == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("ranking", [False, True])
def test_alone_among_others_as_requests_and_loaded_the_bits_are_the_same(tmp_path, ranking):
    _, made = built(ranking)
    many = made.recommend_many(ASKED, **RULES)
    made.save(tmp_path / "bundle")
    assert rr.Recommender.load(tmp_path / "bundle").recommend_many(ASKED, **RULES).equals(many)
    rows = [{name: value for name, value in row.items() if value is not None} for row in ASKED.iter_rows(named=True)]
    requests = [rr.recommender.Request(row, **RULES) for row in rows]
    assert made.recommend_many(requests).equals(many)
    for row in rows:
        alone, among = made.recommend(row, **RULES), many.filter(user=row["user"])
        assert alone["film"].equals(among["film"])
        assert alone["score"].equals(among["score"])


def test_other_weights_are_other_answers_and_equal_ones_change_nothing():
    _, made = built()
    known = made.recommend("u", **RULES)
    assert made.recommend({"user": "u", "tastes": ["x", "y"], "much": [0.9, 0.1]}, **RULES).equals(known)
    other = made.recommend({"user": "u", "tastes": ["x", "y"], "much": [0.1, 0.9]}, **RULES)
    assert not other["score"].equals(known["score"])


@pytest.mark.parametrize(
    ("brought", "lacking"), [({"tastes": ["x"]}, "much"), ({"much": [1.0]}, "tastes"), ({"tastes": []}, "much")]
)
@pytest.mark.parametrize("user", ["u", "stranger"])
def test_one_without_the_other_is_refused(brought, lacking, user):
    _, made = built()
    with pytest.raises(rr.errors.DataError, match=f"the query: expected 'tastes' with.*'much'.*nothing as '{lacking}'"):
        made.recommend({"user": user, **brought})
    with pytest.raises(rr.errors.DataError, match=f"request 1: the query: .*nothing as '{lacking}'"):
        made.recommend_many([rr.recommender.Request({"user": "v"}), rr.recommender.Request({"user": user, **brought})])
    table = pl.DataFrame({"user": ["v", user], **{name: [None, value] for name, value in brought.items()}})
    with pytest.raises(rr.errors.DataError, match=f"queries, row 1: .*nothing as '{lacking}'"):
        made.recommend_many(table)
    both = pl.DataFrame({"user": ["v", user], "tastes": [["x"], None], "much": [None, None]})
    with pytest.raises(rr.errors.DataError, match="queries, row 0: .*nothing as 'much'"):
        made.recommend_many(both)


@pytest.mark.parametrize(
    ("much", "message"),
    [([1.0], "2 weights"), ([1.0, -1.0], "at least 0"), ([1.0, float("nan")], "finite"), (["a", "b"], "number")],
)
def test_bad_weights_are_named_with_their_row(much, message):
    _, made = built()
    with pytest.raises(rr.errors.DataError, match=rf"column 'much' of the query: .*{message}"):
        made.recommend({"user": "u", "tastes": ["x", "y"], "much": much})
    if isinstance(much[0], float):
        table = pl.DataFrame({"user": ["u", "v"], "tastes": [["x"], ["x", "y"]], "much": [[1.0], much]})
        with pytest.raises(rr.errors.DataError, match=rf"column 'much' of queries, row 1: .*{message}"):
            made.recommend_many(table)


def test_a_known_query_without_lists_lacks_them_until_it_brings_both():
    without = pl.concat([TASTES, pl.DataFrame({"user": ["x"], "tastes": [None], "much": [None]}, schema=TASTES.schema)])
    _, made = built()
    lacking = rr.Recommender(
        retrieval=made.retrieval, space=made.space, catalogue=FILMS, history=EVENTS, queries=without
    )
    assert set(lacking.recommend("x", **RULES)["stage"]) == {"popularity"}
    brought = {"user": "x", "tastes": ["z"], "much": [2.0]}
    assert lacking.recommend(brought, **RULES)["score"].equals(made.recommend("v", **RULES)["score"])
    half = without.with_columns(much=pl.col("much").fill_null([1.0]))
    with pytest.raises(rr.errors.DataError, match="no nulls"):
        rr.Recommender(retrieval=made.retrieval, space=made.space, catalogue=FILMS, history=EVENTS, queries=half)


def test_nulls_that_are_unknown_are_empty_lists():
    model, made = built(nulls="unknown")
    found = made.recommend({"user": "stranger", "tastes": ["x", None], "much": [1.0, 0.5]}, **RULES)
    table = pl.DataFrame({"user": ["s"], "tastes": [["x", None]], "much": [[1.0, 0.5]]})
    (scores,) = expected_scores(model, made.space, table)
    assert dict(zip(found["film"], found["score"], strict=True)) == pytest.approx(
        dict(zip(FILMS["film"], scores.tolist(), strict=True)), abs=1e-5
    )


def test_an_update_learns_from_new_lists_with_their_weights(tmp_path):
    films = FILMS.with_columns(title=pl.concat_str(pl.lit("the film "), "film"))
    events = EVENTS.join(TASTES, on="user").join(films, on="film")
    kinds = {"user": F.Categorical(), "film": F.Categorical(), "title": F.Text(weights="tf_idf")}
    space = rr.FeatureSpace({**kinds, "tastes": F.CategoricalList(weights="much")}).fit(events)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["tastes"], layers=[8, 4]), rr.models.Tower(space, ["film", "title"], layers=[4]),
        rr.tasks.Retrieval(), query_id="user",
    )  # fmt: skip
    model.fit(space.loader(events, 6), optimizer=rr.optim.LazyAdam(0.05), epochs=1, progress=False)
    made = rr.Recommender(retrieval=model, space=space, catalogue=films, history=EVENTS, queries=TASTES)
    updated = rr.update(
        made,
        pl.DataFrame({"user": ["x", "u"], "film": ["g", "b"], "time": [7, 8]}),
        new_candidates=pl.DataFrame({"film": ["g"], "genre": ["q"], "title": ["brand new"]}),
        new_queries=pl.DataFrame({"user": ["x", "u"], "tastes": [["z", "q"], ["y"]], "much": [[1.0, 2.0], [3.0]]}),
    )
    assert updated.space.vocabulary("tastes").keys.to_list() == ["z", "y", "x", "q"]
    known = updated.recommend("x", **RULES)
    assert updated.recommend({"user": "x", "tastes": ["z", "q"], "much": [1.0, 2.0]}, **RULES).equals(known)
    assert not updated.recommend({"user": "x", "tastes": ["z", "q"], "much": [2.0, 1.0]}, **RULES).equals(known)
    updated.save(tmp_path / "bundle")
    assert rr.Recommender.load(tmp_path / "bundle").recommend("x", **RULES).equals(known)
