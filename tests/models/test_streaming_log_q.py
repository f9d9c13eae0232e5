"""Retrieval models whose task estimates sampling probabilities from the batches."""

import numpy as np
import pytest
import torch
from tests.models.worlds import movies, space, two_tower, views

import retrank as rr

FITTED = space()
CATALOGUE = FITTED.catalogue(movies(), key="movie_id")
BATCH = FITTED.transform(views())


def model(**kwargs):
    task = rr.tasks.Retrieval(
        temperature=0.5,
        remove_accidental_hits=True,
        log_q=rr.sampling.StreamingFrequency(512, num_hashes=2, rate=0.001),
        batch_metrics=[rr.metrics.BatchTopK(ks=(1, 5))],
        loss_metrics=[rr.metrics.LossMean("softmax")],
        **kwargs,
    )
    return two_tower(FITTED, task, catalogue=CATALOGUE)


def train(model, *, checkpoint=None, epochs=3):
    return model.fit(
        rr.data.Loader(BATCH, 16, shuffle=True, seed=3),
        optimizer=rr.optim.Adagrad(lr=0.1),
        epochs=epochs,
        validation=rr.data.Loader(BATCH, 50),
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else 4,
        device="cpu",
        progress=False,
    )


def test_the_estimate_comes_near_the_shares_and_metrics_are_reported():
    trained = model()
    history = train(trained)
    ids = BATCH["movie_id"]
    counts = np.bincount(ids.numpy(), minlength=12)
    found = trained.task.log_q.eval()(torch.arange(2, 12)).exp().numpy()
    np.testing.assert_allclose(found, counts[2:] / counts.sum(), rtol=0.15)
    assert trained.task.log_q.num_rows == 3 * len(ids)  # neither validation nor a first look at a batch counts
    assert history["softmax"] == pytest.approx(history["loss"], rel=1e-5)
    assert history["val_softmax"] == pytest.approx(history["val_loss"], rel=1e-5)
    assert history["batch_hit_rate@5"][-1] > history["batch_hit_rate@5"][0]
    assert 0 < history["val_batch_hit_rate@1"][-1] < history["val_batch_hit_rate@5"][-1] <= 1


class Killed(BaseException):
    """Stands for a process that ends without warning."""


def test_a_killed_run_goes_on_with_what_was_estimated(tmp_path):
    whole, killed, resumed = model(), model(), model()
    expected, original, steps = train(whole), killed.train_step, []

    def train_step(*args, **kwargs):
        steps.append(1)
        if len(steps) == 22:
            raise Killed
        return original(*args, **kwargs)

    killed.train_step = train_step
    with pytest.raises(Killed):
        train(killed, checkpoint=tmp_path / "run")
    assert train(resumed, checkpoint=tmp_path / "run") == expected
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert "task.log_q.gap" in ours
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_needs_no_counts_and_survives_the_config_round_trip():
    task = rr.tasks.Retrieval(log_q=rr.sampling.StreamingFrequency(64))
    schema = FITTED.schema
    factorization = rr.models.MatrixFactorization(schema["user_id"], schema["movie_id"], task, dim=4)  # no space
    assert torch.isfinite(factorization.compute_loss(BATCH, training=True))
    again = rr.core.from_config(rr.core.to_config(factorization))
    again.load_state_dict(factorization.state_dict())
    assert torch.equal(again.task.log_q.gap, factorization.task.log_q.gap)


def test_a_softmax_over_the_catalogue_samples_nothing():
    task = rr.tasks.Retrieval(log_q=rr.sampling.StreamingFrequency(64))
    with pytest.raises(rr.errors.ConfigError, match="log_q"):
        two_tower(FITTED, task, catalogue=CATALOGUE, negatives="catalogue")


def test_a_symmetric_loss_trains():
    history = train(model(symmetric=True))
    assert history["loss"][-1] < history["loss"][0]
