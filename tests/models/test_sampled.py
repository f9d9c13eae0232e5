"""Retrieval models whose negatives a sampler draws, and YoutubeDNN."""

import numpy as np
import polars as pl
import pytest
import torch
from tests.models.worlds import movies, space, two_tower, views

import retrank as rr

SPACE = space()
CATALOGUE = SPACE.catalogue(movies(), key="movie_id")
BATCH = SPACE.transform(views(16, seed=2))
COUNTS = SPACE.vocabulary("movie_id").counts


def softmax_by_hand(model, ids, log_q=None, temperature=1.0, drop_hits=False):
    """-log of the positive's share among itself and the drawn ids, row by row."""
    corpus = model.embed_candidates(CATALOGUE.batch)
    vectors = dict(zip(CATALOGUE.batch["movie_id"].tolist(), corpus, strict=True))
    losses = []
    for query, own in zip(model.embed_queries(BATCH), BATCH["movie_id"].tolist(), strict=True):
        columns = [own, *(i for i in ids if not (drop_hits and i == own))]
        scores = np.array([float(query.double() @ vectors[i].double()) / temperature for i in columns])
        scores -= 0 if log_q is None else np.array([log_q[i] for i in columns])
        losses.append(np.log(np.exp(scores).sum()) - scores[0])
    return np.mean(losses)


def test_all_candidates_once_are_a_softmax_over_all():
    sampler = rr.sampling.Uniform(10)
    task = rr.tasks.Retrieval(remove_accidental_hits=True)
    sampled = two_tower(SPACE, task, catalogue=CATALOGUE, negatives=sampler)
    whole = two_tower(SPACE, catalogue=CATALOGUE, negatives="catalogue")
    torch.testing.assert_close(sampled.compute_loss(BATCH, training=True), whole.compute_loss(BATCH, training=True))


@pytest.mark.parametrize("drop_hits", [True, False])
def test_scores_are_corrected_by_what_the_sampler_says(drop_hits):
    class Fixed(rr.sampling.Sampler):
        def draw(self, positives):
            ids = torch.tensor([4, 7, 7])
            return rr.sampling.Negatives(ids, positives.embed(ids), lambda some: -some.float() / 3)

    task = rr.tasks.Retrieval(temperature=0.5, log_q=True, remove_accidental_hits=drop_hits)
    model = two_tower(SPACE, task, catalogue=CATALOGUE, negatives=Fixed())
    log_q = {i: -i / 3 for i in range(12)}
    expected = softmax_by_hand(model, [4, 7, 7], log_q, temperature=0.5, drop_hits=drop_hits)
    assert model.compute_loss(BATCH, training=True).item() == pytest.approx(expected, rel=1e-4)


def test_other_positives_of_the_batch_are_no_negatives():
    class Nothing(rr.sampling.Sampler):
        def draw(self, positives):
            none = positives.ids[:0]
            return rr.sampling.Negatives(none, positives.embed(none))

    model = two_tower(SPACE, catalogue=CATALOGUE, negatives=Nothing())
    assert model.compute_loss(BATCH, training=True) == 0


def test_ids_outside_of_the_catalogue_are_never_compared():
    few = SPACE.catalogue(movies()[:4], key="movie_id")
    task = rr.tasks.Retrieval(remove_accidental_hits=True)
    model = two_tower(SPACE, task, catalogue=few, negatives=rr.sampling.Uniform(10))
    here = [int(i) for i in few.batch["movie_id"]]
    expected = softmax_by_hand(model, here, drop_hits=True)
    assert model.compute_loss(BATCH, training=True).item() == pytest.approx(expected, rel=1e-4)


def test_an_evaluation_draws_the_same_and_leaves_the_generator_alone():
    model = two_tower(SPACE, catalogue=CATALOGUE, negatives=rr.sampling.Uniform(3, unique=False))
    loader = rr.data.Loader(BATCH, 8)
    state = torch.get_rng_state()
    assert model.evaluate(loader) == model.evaluate(loader)
    assert torch.equal(torch.get_rng_state(), state)
    drawn = {model.compute_loss(BATCH, training=True).item() for _ in range(5)}
    assert len(drawn) > 1


def test_a_tower_of_features_needs_the_catalogue_to_embed_what_is_drawn():
    model = two_tower(SPACE, negatives=rr.sampling.Uniform(3, num_ids=12))
    with pytest.raises(rr.errors.ConfigError, match="catalogue=space.catalogue"):
        model.compute_loss(BATCH, training=True)
    assert two_tower(SPACE, negatives=rr.sampling.InBatch()).compute_loss(BATCH, training=True).isfinite()


def test_a_sampler_that_knows_no_probabilities_cannot_be_corrected():
    model = two_tower(SPACE, rr.tasks.Retrieval(log_q=True), negatives=rr.sampling.InBatch())
    with pytest.raises(rr.errors.ConfigError, match="probabilities"):
        model.compute_loss(BATCH, training=True)


def test_a_sampler_is_not_corrected_by_a_streaming_frequency():
    task = rr.tasks.Retrieval(log_q=rr.sampling.StreamingFrequency(100))
    with pytest.raises(rr.errors.ConfigError, match="log_q=True or False"):
        two_tower(SPACE, task, catalogue=CATALOGUE, negatives=rr.sampling.Uniform(3))
    assert two_tower(SPACE, task).compute_loss(BATCH, training=True).isfinite()


def test_memory_of_earlier_batches_survives_a_checkpoint(tmp_path):
    def fit(epochs, **arguments):
        model = two_tower(SPACE, catalogue=CATALOGUE, negatives=rr.sampling.CrossBatch(capacity=12))
        loader = rr.data.Loader(BATCH, 8, shuffle=True)
        model.fit(loader, optimizer=rr.optim.Adagrad(0.1), epochs=epochs, progress=False, device="cpu", **arguments)
        return model

    whole = fit(4)
    fit(2, checkpoint=tmp_path / "c")
    halves = fit(4, checkpoint=tmp_path / "c")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, halves.state_dict()[name]), name


def plays():
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"s{(start + step) % 12}") for u in range(40) for start in [rng.integers(12)] for step in range(6)
    ]
    table = pl.DataFrame(rows, schema=["user", "song"], orient="row").with_columns(time=pl.int_range(pl.len()))
    return rr.data.with_recent_candidates(table, query="user", candidate="song", time="time", length=3)


@pytest.mark.parametrize("negatives", ["catalogue", rr.sampling.Uniform(6)])
def test_youtube_dnn_learns_what_comes_next(negatives):
    table = plays()
    kinds = {
        "user": rr.features.Categorical(),
        "song": rr.features.Categorical(),
        "recent": rr.features.Recent("song", decay=1.0),
    }
    fitted = rr.FeatureSpace(kinds).fit(table)
    songs = table.select("song").unique(maintain_order=True)
    catalogue = fitted.catalogue(songs, key="song")
    metric = rr.metrics.FullCorpusTopK(ks=(1,))
    model = rr.models.youtube_dnn(
        fitted,
        ["recent"],
        candidate_id="song",
        query_id="user",
        layers=[32, 16],
        dim=16,
        task=rr.tasks.Retrieval(metrics=[metric], remove_accidental_hits=True, log_q=negatives != "catalogue"),
        catalogue=catalogue,
        negatives=negatives,
    )
    assert model.features == ("recent", "song")
    model.fit(
        fitted.loader(table, batch_size=64, shuffle=True), optimizer=rr.optim.LazyAdam(0.02), epochs=25, progress=False
    )
    hits = model.evaluate(fitted.loader(table, batch_size=64))["hit_rate@1"]
    assert hits > 0.75  # five of six plays follow another one; chance is 1 in 12

    recommender = rr.Recommender(model, space=fitted, catalogue=songs, history=table)
    assert (
        recommender.recommend({"user": "u3", "recent": ["s4", "s5", "s6"]}, k=1, exclude_seen=False)["song"][0] == "s7"
    )


def test_the_key_of_queries_must_be_a_feature():
    with pytest.raises(rr.errors.ConfigError, match="'viewer'"):
        rr.models.youtube_dnn(SPACE, ["age"], candidate_id="movie_id", query_id="viewer", negatives="in_batch")
