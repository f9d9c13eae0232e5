"""What `TwoTower` and `MatrixFactorization` share."""

import math
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from tests.models.worlds import NUM_MOVIES, movies, space, two_tower, views

import retrank as rr

FITTED = space()
CATALOGUE = FITTED.catalogue(movies(), key="movie_id")
BATCH = FITTED.transform(views(16, seed=3))


def factorization(task=None, **kwargs):
    torch.manual_seed(1)
    schema = FITTED.schema
    return rr.models.MatrixFactorization(
        schema["user_id"], schema["movie_id"], rr.tasks.Retrieval() if task is None else task, dim=6, **kwargs
    )


def log_softmax(scores):
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def vectors(model):
    return (
        model.embed_queries(BATCH).double().numpy(),
        model.embed_candidates(BATCH).double().numpy(),
        model.embed_candidates(CATALOGUE.batch).double().numpy(),
    )


def spread(model):
    """Make the scores differ visibly."""
    for weight in model.embedding_parameters:
        weight.data[1:].normal_(generator=rr.core.generator(4, weight.shape[1]))
    return model


@pytest.mark.parametrize(
    "model",
    [
        two_tower(FITTED, rr.tasks.Retrieval(temperature=0.5, log_q=True)),
        factorization(rr.tasks.Retrieval(temperature=0.5, log_q=True), space=FITTED),
    ],
    ids=["two_tower", "factorization"],
)
def test_in_batch_loss_with_log_q_by_hand(model):
    queries, candidates, _ = vectors(spread(model))
    counts = views().group_by("movie_id").len()
    share = dict(zip(counts["movie_id"], counts["len"] / len(views()), strict=True))
    names = views(16, seed=3)["movie_id"]
    scores = queries @ candidates.T / 0.5 - np.log([share[name] for name in names])
    expected = -np.diag(log_softmax(scores)).mean()
    assert model.compute_loss(BATCH, training=True).item() == pytest.approx(expected, rel=1e-5)


def test_without_log_q_popularity_is_not_corrected():
    model = spread(two_tower(FITTED))
    queries, candidates, _ = vectors(model)
    expected = -np.diag(log_softmax(queries @ candidates.T)).mean()
    assert model.compute_loss(BATCH, training=True).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("build", [lambda **kw: two_tower(FITTED, **kw), factorization])
def test_loss_over_the_catalogue_by_hand(build):
    model = spread(build(catalogue=CATALOGUE, negatives="catalogue"))
    queries, _, corpus = vectors(model)
    rows = CATALOGUE.rows(views(16, seed=3)["movie_id"]).numpy()
    expected = -log_softmax(queries @ corpus.T)[np.arange(16), rows].mean()
    loss = model.compute_loss(BATCH, training=True)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert model.test_step(BATCH)["loss"].item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    touched = (model.embedding_parameters[-2 if build is factorization else 2].grad.to_dense() != 0).any(dim=1)
    assert touched.sum() >= NUM_MOVIES  # negatives that are in no row of the batch learn, too


@pytest.mark.parametrize("negatives", ["in_batch", "catalogue"])
@pytest.mark.parametrize("build", [lambda *a, **kw: two_tower(FITTED, *a, **kw), factorization])
def test_evaluation_ranks_among_the_whole_catalogue(build, negatives):
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1, 3))])
    model = spread(build(task, catalogue=CATALOGUE, negatives=negatives))
    results = model.evaluate(rr.data.Loader(BATCH, 5))
    queries, _, corpus = vectors(model)
    scores = queries @ corpus.T
    rows = CATALOGUE.rows(views(16, seed=3)["movie_id"]).numpy()
    ranks = 1 + (scores > scores[np.arange(16), rows][:, None]).sum(axis=1)
    assert results["hit_rate@1"] == pytest.approx((ranks <= 1).mean())
    assert results["hit_rate@3"] == pytest.approx((ranks <= 3).mean())
    assert results["mrr"] == pytest.approx((1 / ranks).mean())
    assert results["ndcg@3"] == pytest.approx(np.where(ranks <= 3, 1 / np.log2(1 + ranks), 0).mean())


def test_evaluation_embeds_the_catalogue_once():
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK()])
    model = two_tower(FITTED, task, catalogue=CATALOGUE)
    sizes, original = [], model.candidate_embeddings
    model.candidate_embeddings = lambda batch: sizes.append(len(batch)) or original(batch)
    model.evaluate(rr.data.Loader(BATCH, 4))
    assert sizes == [NUM_MOVIES, 4, 4, 4, 4]
    assert model._embedded is None


def test_excluded_rows_do_not_count():
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1,))])
    model = spread(two_tower(FITTED, task, catalogue=CATALOGUE, exclude="seen"))
    rows = CATALOGUE.rows(views(16, seed=3)["movie_id"]).tolist()
    others = rr.Jagged.from_lists([[row for row in range(NUM_MOVIES) if row != positive] for positive in rows])
    nobody = rr.Jagged.empty(16)
    assert model.evaluate(rr.data.Loader(BATCH.merge({"seen": others}), 5))["hit_rate@1"] == 1
    assert model.evaluate(rr.data.Loader(BATCH.merge({"seen": nobody}), 5))["hit_rate@1"] < 1


@pytest.mark.parametrize("built_with", [None, "seen"])
def test_an_evaluation_can_be_told_what_to_exclude(built_with):
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1,))])
    model = spread(two_tower(FITTED, task, catalogue=CATALOGUE, exclude=built_with))
    rows = CATALOGUE.rows(views(16, seed=3)["movie_id"]).tolist()
    others = rr.Jagged.from_lists([[row for row in range(NUM_MOVIES) if row != positive] for positive in rows])
    batches = rr.data.Loader(BATCH.merge({"seen": others, "nobody": rr.Jagged.empty(16)}), 5)
    kept = model.evaluate(batches, exclude="nobody")
    assert kept["hit_rate@1"] < 1
    assert model.evaluate(batches, exclude=False) == kept
    assert model.evaluate(batches, exclude="seen") == {**kept, "hit_rate@1": 1, "ndcg@1": 1, "mrr": 1}
    assert model.exclude == built_with
    assert model.evaluate(batches)["hit_rate@1"] == (1 if built_with else kept["hit_rate@1"])


def test_an_exclusion_that_cannot_be_made_is_refused():
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1,))])
    model = two_tower(FITTED, task, catalogue=CATALOGUE)
    batches = rr.data.Loader(BATCH, 5)
    with pytest.raises(rr.errors.DataError, match="'seen'"):
        model.evaluate(batches, exclude="seen")
    assert model.exclude is None
    for wrong in (True, 3, ["seen"]):
        with pytest.raises(rr.errors.ConfigError, match="name of a column"):
            model.evaluate(batches, exclude=wrong)
    with pytest.raises(rr.errors.ConfigError, match="corpus metrics"):
        two_tower(FITTED).evaluate(batches, exclude="seen")


def test_weights_count_in_loss_and_metrics():
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1,))])
    model = spread(two_tower(FITTED, task, catalogue=CATALOGUE, weight="rating"))
    queries, candidates, corpus = vectors(model)
    weight = BATCH["rating"].numpy()
    losses = -np.diag(log_softmax(queries @ candidates.T))
    rows = CATALOGUE.rows(views(16, seed=3)["movie_id"]).numpy()
    hits = (queries @ corpus.T).argmax(axis=1) == rows
    results = model.evaluate(rr.data.Loader(BATCH, 16))
    assert results["loss"] == pytest.approx((weight * losses).mean(), rel=1e-5)
    assert results["hit_rate@1"] == pytest.approx((weight * hits).sum() / weight.sum())


@pytest.mark.parametrize("negatives", ["in_batch", "catalogue"])
def test_positives_outside_of_the_catalogue_are_misses_and_one_warning_tells(negatives):
    part = FITTED.catalogue(movies().filter(~pl.col("movie_id").is_in(["m0", "m3"])), key="movie_id")
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(8,))])
    model = two_tower(FITTED, task, catalogue=part, negatives=negatives)
    test = (
        views(40, seed=5)
        .with_row_index()
        .with_columns(movie_id=pl.when(pl.col("index") < 5).then(pl.lit("new film")).otherwise(pl.col("movie_id")))
    )
    missing = int(test["movie_id"].is_in(["m0", "m3", "new film"]).sum())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = model.evaluate(FITTED.loader(test, 7))
    assert [str(entry.message)[: len(f"{missing} of 40 rows")] for entry in caught] == [f"{missing} of 40 rows"]
    assert issubclass(caught[0].category, rr.errors.RetrankWarning)
    assert results["hit_rate@8"] == pytest.approx(1 - missing / 40)  # all 8 that there are


def test_training_rows_outside_of_the_catalogue_teach_nothing_and_one_warning_tells():
    part = FITTED.catalogue(movies().head(4), key="movie_id")
    model = spread(two_tower(FITTED, catalogue=part, negatives="catalogue"))
    names = views(16, seed=3)["movie_id"]
    known = torch.tensor([row for row, name in enumerate(names) if name in ("m0", "m1", "m2", "m3")])
    alone = model.compute_loss(BATCH.take(known), training=True)
    assert model.compute_loss(BATCH, training=True).item() == pytest.approx(alone.item() * len(known) / 16, rel=1e-5)
    model.begin_evaluation()  # counts from here
    with pytest.warns(rr.errors.RetrankWarning, match=f"{2 * (16 - len(known))} of 32 rows.*left out of the loss"):
        model.fit(
            rr.data.Loader(BATCH.concat([BATCH, BATCH]), 4), optimizer=rr.optim.Adagrad(), epochs=1, progress=False
        )


@pytest.mark.parametrize(
    "build",
    [
        lambda **kw: two_tower(FITTED, rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1, 5))]), **kw),
        lambda **kw: factorization(rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1, 5))]), **kw),
    ],
)
@pytest.mark.parametrize("negatives", ["in_batch", "catalogue"])
def test_training_learns_taste_and_the_index_serves_it(build, negatives):
    model = build(catalogue=CATALOGUE, negatives=negatives)
    history = model.fit(
        FITTED.loader(views(), 60, shuffle=True),
        optimizer=rr.optim.Adagrad(lr=0.3),
        epochs=15,
        validation=FITTED.loader(views(60, seed=9), 60),
        device="cpu",
        progress=False,
    )
    assert history["val_hit_rate@5"][-1] > 0.95  # five films of the viewer's parity, chance is 0.5
    viewers = views(30, seed=11)
    _, keys = model.build_index().search(model.embed_queries(FITTED.transform(viewers)), k=5)
    parity = np.array([[int(key[1:]) % 2 for key in row] for row in keys])
    assert (parity == (viewers["user_id"].to_numpy() % 2)[:, None]).mean() > 0.95
    pairs = FITTED.transform(viewers)
    rows = CATALOGUE.rows(viewers["movie_id"])
    all_scores, ids = model.build_index().search_rows(model.embed_queries(pairs), k=NUM_MOVIES)
    own = all_scores[ids == rows[:, None]]
    torch.testing.assert_close(model.predict(rr.data.Loader(pairs, 7)), own, rtol=1e-4, atol=1e-5)


def test_index_of_another_catalogue_and_of_another_type():
    model = two_tower(FITTED)
    few = FITTED.catalogue(movies().tail(3), key="movie_id")
    assert model.build_index(few).keys.tolist() == ["m7", "m8", "m9"]
    made = []
    model.build_index(few, index_type=lambda embeddings, keys: made.append((embeddings.shape, list(keys))))
    assert made == [((3, 8), ["m7", "m8", "m9"])]
    with pytest.raises(rr.errors.ConfigError, match="catalogue"):
        model.build_index()


def test_embedding_helpers_leave_no_trace():
    torch.manual_seed(0)
    tower = rr.models.Tower(FITTED, ["user_id", "age"], layers=[16, 8], dim=8, dropout=0.5, unknown_rate=0.5)
    model = rr.models.TwoTower(tower, rr.models.Tower(FITTED, ["movie_id"], layers=[8]), rr.tasks.Retrieval())
    assert torch.equal(model.embed_queries(BATCH), model.embed_queries(BATCH))
    assert not model.embed_queries(BATCH).requires_grad
    assert model.training
    assert tower.training


def test_more_candidates_than_are_embedded_at_once():
    model = two_tower(FITTED)
    rows = torch.arange(9_001) % NUM_MOVIES
    expected = model.embed_candidates(CATALOGUE.batch)[rows]
    torch.testing.assert_close(model.embed_candidates(CATALOGUE.batch.take(rows)), expected)


def test_corpus_metrics_without_a_catalogue_say_what_to_pass():
    model = two_tower(FITTED, rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK()]))
    model.fit(rr.data.Loader(BATCH, 8), optimizer=rr.optim.Adagrad(), epochs=1, progress=False)
    with pytest.raises(rr.errors.ConfigError, match=r'catalogue=space.catalogue\(candidates, key="movie_id"\)'):
        model.evaluate(rr.data.Loader(BATCH, 8))


def test_the_bias_is_a_score_that_no_query_changes():
    model = factorization()
    model.bias.weight.data[2:] = torch.arange(NUM_MOVIES).unsqueeze(1) * 10.0
    _, ids = model.build_index(CATALOGUE).search_rows(model.embed_queries(BATCH), k=NUM_MOVIES)
    expected = CATALOGUE.batch["movie_id"].argsort(descending=True)
    assert torch.equal(ids, expected.expand(16, NUM_MOVIES))
    assert factorization(bias=False).bias is None


def test_candidate_ids_that_name_no_single_row_are_refused():
    with pytest.raises(rr.errors.DataError, match="row 2.*row 0|again in row"):
        two_tower(
            FITTED,
            candidate_id="age",
            catalogue=rr.features.Catalogue(["a", "b", "c"], rr.Batch({"age": torch.tensor([2, 3, 2])}), "movie"),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negatives": "all"}, "in_batch"),
        ({"output_l2": -1.0}, "output_l2"),
        ({"negatives": "catalogue"}, "a catalogue"),
        ({"negatives": "catalogue", "catalogue": CATALOGUE, "task": rr.tasks.Retrieval(log_q=True)}, "log_q"),
        ({"candidate_id": "genres"}, "genres"),
        ({"candidate_id": "year"}, "year"),
        ({"candidate_id": "nothing"}, "nothing"),
        ({"catalogue": rr.features.Catalogue(["a"], rr.Batch({"x": torch.ones(1)}), "movie")}, "movie_id"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(rr.errors.ConfigError, match=message):
        two_tower(FITTED, **arguments)


def test_bad_towers_and_columns():
    with pytest.raises(rr.errors.ConfigError, match="equal output width"):
        rr.models.TwoTower(
            rr.models.Tower(FITTED, ["user_id"], layers=[8]),
            rr.models.Tower(FITTED, ["movie_id"], layers=[9]),
            rr.tasks.Retrieval(),
        )
    with pytest.raises(rr.errors.ConfigError, match="one id per row"):
        rr.models.MatrixFactorization(FITTED.schema["user_id"], FITTED.schema["genres"], rr.tasks.Retrieval())
    with pytest.raises(rr.errors.ConfigError, match="space"):
        factorization(rr.tasks.Retrieval(log_q=True))


@pytest.mark.parametrize(
    "build",
    [lambda *a, **kw: two_tower(FITTED, *a, **kw), lambda *a, **kw: factorization(*a, space=FITTED, **kw)],
)
def test_config_round_trip(build):
    task = rr.tasks.Retrieval(temperature=0.2, log_q=True, metrics=[rr.metrics.FullCorpusTopK(ks=(1, 4))])
    model = build(task, catalogue=CATALOGUE, weight="rating", exclude=None)
    config = rr.core.to_config(model)
    again = rr.core.from_config(config, space=FITTED, catalogue=CATALOGUE)
    assert rr.core.to_config(again) == config
    again.load_state_dict(model.state_dict())
    loader = rr.data.Loader(BATCH, 5)
    assert again.evaluate(loader) == model.evaluate(loader)


def test_the_parameters_divide_into_tables_and_the_rest():
    model = two_tower(FITTED)
    assert len(model.embedding_parameters) == 4
    assert len(model.embedding_parameters) + len(model.dense_parameters) == len(list(model.parameters()))
    spec = rr.optim.Composite(
        [(rr.optim.RowwiseAdagrad(lr=0.1), model.embedding_parameters), (rr.optim.Adam(), model.dense_parameters)]
    )
    history = model.fit(rr.data.Loader(BATCH, 8), optimizer=spec, epochs=2, progress=False)
    assert math.isfinite(history["loss"][-1])


@pytest.mark.parametrize("negatives", ["in_batch", "catalogue"])
@pytest.mark.parametrize("build", [lambda **kw: two_tower(FITTED, **kw), factorization])
def test_output_l2_is_a_regularization_of_training(build, negatives):
    model = spread(build(catalogue=CATALOGUE, negatives=negatives, output_l2=0.3))
    queries, candidates, corpus = vectors(model)
    scored = candidates if negatives == "in_batch" else corpus
    expected = 0.3 * ((queries**2).sum(axis=1).mean() + (scored**2).sum(axis=1).mean())
    losses = model.train_step(BATCH, rr.optim.SGD(lr=0.0).build(model.named_parameters()))
    assert losses["regularization_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.regularization_loss() == 0
    assert model.test_step(BATCH)["regularization_loss"] == 0


def test_features_that_a_query_needs():
    assert two_tower(FITTED).query_features == ("user_id", "age")
    assert factorization().query_features == ("user_id",)


def test_bfloat16_ranks_in_full_precision():
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(3,))])
    model = spread(factorization(task, catalogue=CATALOGUE))
    loader = rr.data.Loader(BATCH, 5)
    assert model.evaluate(loader, precision="bfloat16")["mrr"] == model.evaluate(loader)["mrr"]
