"""Every sampler draws each id as often as it says, where positives come as often as they were counted."""

import inspect
import math

import numpy as np
import pytest
import torch

import retrank as rr
from retrank import sampling
from retrank.core.errors import ConfigError

COUNTS = [40, 20, 10, 8, 6, 5, 4, 3, 2, 1, 1, 1]
SHARES = np.array(COUNTS) / sum(COUNTS)
IDS = torch.arange(2, 14)
BATCH, DRAWS = 16, 2000

SAMPLERS = {
    "in batch": lambda: sampling.InBatch(counts=COUNTS),
    "cross batch": lambda: sampling.CrossBatch(BATCH, counts=COUNTS),  # holds one batch: draws are independent
    "uniform": lambda: sampling.Uniform(5, num_ids=14),
    "uniform repeated": lambda: sampling.Uniform(5, num_ids=14, unique=False),
    "log-uniform": lambda: sampling.Popularity(5, num_ids=14),
    "log-uniform repeated": lambda: sampling.Popularity(5, num_ids=14, unique=False),
    "popularity": lambda: sampling.Popularity(5, counts=COUNTS),
    "popularity repeated": lambda: sampling.Popularity(5, counts=COUNTS, unique=False),
    "mixed": lambda: sampling.Mixed(
        [sampling.InBatch(counts=COUNTS), sampling.Uniform(3, num_ids=14), sampling.Popularity(4, counts=COUNTS)]
    ),
    "mixed with earlier": lambda: sampling.Mixed(
        [sampling.InBatch(counts=COUNTS), sampling.CrossBatch(BATCH, counts=COUNTS)]
    ),
}


def positives(draws):
    rng = np.random.default_rng(5)
    return torch.from_numpy(2 + rng.choice(12, size=(draws, BATCH), p=SHARES))


def observed_and_stated(sampler, draws=DRAWS):
    """Return how often each draw holds each id, `(draws, ids)`, and how often it is expected to."""
    torch.manual_seed(11)
    sampler(positives(1)[0], torch.zeros(BATCH, 2), training=True)  # fills a queue
    counts = []
    for ids in positives(draws):
        negatives = sampler(ids, torch.zeros(BATCH, 2), training=True)
        counts.append(torch.bincount(negatives.ids, minlength=14))
    stated = negatives.log_q_of(IDS).double().exp().numpy()
    counts = torch.stack(counts).numpy()
    assert (counts[:, :2] == 0).all()
    return counts[:, 2:], stated


def test_all_samplers_are_here():
    exported = {getattr(sampling, name) for name in sampling.__all__}
    kinds = {kind for kind in exported if inspect.isclass(kind) and issubclass(kind, sampling.Sampler)}
    assert {type(build()) for build in SAMPLERS.values()} == kinds - {sampling.Sampler}


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_id_comes_as_often_as_stated(name):
    observed, stated = observed_and_stated(SAMPLERS[name]())
    assert (observed.sum(axis=0) > 0).all()
    assert stated.sum() == pytest.approx(observed[0].sum(), rel=1e-5)  # every draw is of the same size
    deviation, spread = observed.mean(axis=0) - stated, observed.std(axis=0)
    certain = spread == 0
    np.testing.assert_allclose(deviation[certain], 0, atol=1e-6)
    squares = (deviation[~certain] ** 2 / spread[~certain] ** 2 * len(observed)).sum()
    freedom = (~certain).sum()
    assert squares < freedom + 5 * math.sqrt(2 * freedom) + 1


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name.endswith("repeated")])
def test_repeated_draws_are_independent(name):
    # Of independent columns two are equal with the sum of squared shares.
    sampler = SAMPLERS[name]()
    observed, stated = observed_and_stated(sampler)
    pairs = (observed * (observed - 1)).sum(axis=1) / (5 * 4)
    share = stated / 5
    assert pairs.mean() == pytest.approx((share**2).sum(), abs=5 * pairs.std() / math.sqrt(len(pairs)))


def test_unique_uniform_draws_let_all_pairs_meet_equally_often():
    observed, _ = observed_and_stated(SAMPLERS["uniform"]())
    assert observed.max() == 1
    together = (observed.T @ observed)[np.triu_indices(12, k=1)]
    expected = len(observed) * (5 * 4) / (12 * 11)
    squares = ((together - expected) ** 2 / expected).sum()
    assert squares < 66 + 5 * math.sqrt(2 * 66)


@pytest.mark.parametrize(
    "build",
    [
        lambda: sampling.Uniform(500, num_ids=3002),
        lambda: sampling.Uniform(500, num_ids=3002, unique=False),
        lambda: sampling.Popularity(500, num_ids=3002),
        lambda: sampling.Popularity(500, num_ids=3002, unique=False),
    ],
    ids=["uniform", "uniform repeated", "log-uniform", "log-uniform repeated"],
)
def test_every_id_of_a_larger_vocabulary_comes(build):
    torch.manual_seed(3)
    sampler = build()
    drawn = torch.cat([sampler(torch.tensor([2])).ids for _ in range(600)]).unique()
    assert torch.equal(drawn, torch.arange(2, 3002))


def learned(rate=0.002):
    return sampling.StreamingFrequency(1009, num_hashes=2, rate=rate)


@pytest.mark.parametrize("kind", ["in batch", "cross batch", "mixed"])
def test_a_learned_frequency_comes_near_what_counts_say(kind):
    build = {
        "in batch": lambda: sampling.InBatch(frequency=learned()),
        "cross batch": lambda: sampling.CrossBatch(BATCH, frequency=learned()),
        "mixed": lambda: sampling.Mixed(
            [sampling.InBatch(frequency=learned()), sampling.CrossBatch(BATCH, frequency=learned())]
        ),
    }
    observed, stated = observed_and_stated(build[kind](), draws=1500)
    size = BATCH * (2 if kind == "mixed" else 1)
    np.testing.assert_allclose(stated[:6], size * SHARES[:6], rtol=0.1)
    np.testing.assert_allclose(stated, observed.mean(axis=0), rtol=0.4)


def test_a_frequency_learns_each_training_batch_once_and_before_its_own_draw():
    frequency = learned()
    sampler = sampling.InBatch(frequency=frequency)
    ids = torch.tensor([7, 8, 7, 7])
    negatives = sampler(ids, torch.zeros(4, 2), training=True)
    for _ in range(3):
        assert torch.allclose(negatives.log_q.exp(), torch.tensor([3.0, 1.0, 3.0, 3.0]))
    assert frequency.num_rows == 4
    sampler(torch.tensor([9, 9]), torch.zeros(2, 2))  # no training step
    frequency.eval()
    assert frequency.num_rows == 4
    sampler(ids, torch.zeros(4, 2), training=True)  # the step decides, not the mode
    assert frequency.num_rows == 8
    unseen = sampler(ids, torch.zeros(4, 2)).log_q_of(torch.tensor([0, 1, 13]))
    assert torch.allclose(unseen.exp(), torch.tensor(4 / 9))  # as if it came next


def test_counts_and_a_frequency_contradict_each_other():
    for build in (sampling.InBatch, lambda **given: sampling.CrossBatch(4, **given)):
        with pytest.raises(ConfigError, match="counts or a frequency"):
            build(counts=COUNTS, frequency=learned())


def test_what_a_frequency_learned_is_saved_with_the_sampler(tmp_path):
    first, second = (sampling.InBatch(frequency=learned()) for _ in range(2))
    for ids in positives(20):
        first(ids, torch.zeros(BATCH, 2), training=True)
    assert "frequency.gap" in first.state_dict()
    rr.training.save_weights(tmp_path / "sampler", first)
    rr.training.load_weights(tmp_path / "sampler", second)
    one, other = (sampler(positives(1)[0], torch.zeros(BATCH, 2)).log_q_of(IDS) for sampler in (first, second))
    assert torch.equal(one, other)


def test_corrected_scores_reveal_popularity_and_uncorrected_ones_do_not():
    # Nobody prefers any movie to another, so that popularity is all there is to learn.
    rng = np.random.default_rng(0)
    movies = torch.from_numpy(2 + rng.choice(12, size=10_000, p=SHARES))
    batch = rr.Batch({"movie_id": movies})
    results = {}
    for name, sampler in {
        "counts": sampling.InBatch(counts=COUNTS),
        "learned": sampling.InBatch(frequency=learned()),
        "none": sampling.InBatch(),
    }.items():
        model = Bias(rr.tasks.RetrievalScorer([sampler], candidate_id="movie_id", log_q=name != "none"))
        loader = rr.data.Loader(batch, 120, shuffle=True)
        model.fit(loader, optimizer=rr.optim.Adam(lr=0.05), epochs=2, progress=False, device="cpu")
        results[name] = model.bias.detach()[3:].double().numpy()
    # The optimum of a corrected softmax are the shares; the first movie, two of five rows, is left out, since so many
    # of its negatives are false and removed.
    log_shares = np.log(SHARES[1:])
    for name in ("counts", "learned"):
        found = results[name] - results[name].mean()
        np.testing.assert_allclose(found, log_shares - log_shares.mean(), atol=0.3, err_msg=name)
    assert results["none"].std() < 0.1 * log_shares.std()


class Bias(rr.Model):
    """Scores a movie by its bias alone."""

    def __init__(self, scorer):
        super().__init__()
        self.bias, self.scorer = torch.nn.Parameter(torch.zeros(14)), scorer

    def compute_loss(self, batch, training=False):
        ids = batch["movie_id"]
        inputs = {"query": torch.ones(len(ids), 1), "candidate": self.bias[ids][:, None]}
        output = self.scorer(inputs, features=batch, training=training, testing=not training)
        return rr.losses.cross_entropy(output.scores, output.valid_negatives)
