import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank import sampling
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.sampling.probabilities import inclusion_probabilities

SPECIAL = 2
ANY = torch.tensor([2])
COUNTS = [40, 20, 10, 8, 6, 5, 4, 3, 2, 1, 1, 0]


def drawn(sampler, draws, **options):
    """Draw often; return the ids of each draw, `(draws, negatives)`."""
    torch.manual_seed(7)
    return torch.stack([sampler(ANY, **options).ids for _ in range(draws)])


def chi_square_is_small(observed, expected, variance):
    """Squared z-scores add up to about chi-square; 5 deviations above its mean is too much."""
    certain = variance == 0
    assert (observed[certain] == expected[certain]).all()
    squares = ((observed - expected)[~certain] ** 2 / variance[~certain]).sum()
    freedom = (~certain).sum()
    assert squares < freedom + 5 * math.sqrt(2 * freedom) + 1


def stated_counts(sampler, num_ids):
    return sampler(ANY).log_q_of(torch.arange(num_ids)).double().exp().numpy()


def shares(counts):
    counts = np.maximum(counts, 1)
    return counts / counts.sum()


def zipf(num_keys):
    ranks = np.arange(num_keys)
    return np.log((ranks + 2) / (ranks + 1)) / np.log(num_keys + 1)


def water_filled(probability, num):
    """Exact: what would be drawn more than once is drawn always, one after another."""
    left, always = Fraction(num), set()
    exact = [Fraction(float(p)) for p in probability]
    while True:
        total = sum(p for i, p in enumerate(exact) if i not in always)
        over = [i for i, p in enumerate(exact) if i not in always and left * p >= total]
        if not over:
            return np.array([1.0 if i in always else float(left * p / total) for i, p in enumerate(exact)])
        always |= {over[0]}
        left -= 1


REPEATED = {
    "uniform": (sampling.Uniform(5, num_ids=14, unique=False), np.full(12, 1 / 12)),
    "log-uniform": (sampling.Popularity(5, num_ids=14, unique=False), zipf(12)),
    "counts": (sampling.Popularity(5, counts=COUNTS, unique=False), shares(COUNTS)),
}
UNIQUE = {
    "uniform": (sampling.Uniform(5, num_ids=14), np.full(12, 1 / 12)),
    "log-uniform": (sampling.Popularity(5, num_ids=14), zipf(12)),
    "counts": (sampling.Popularity(5, counts=COUNTS), shares(COUNTS)),
    "single": (sampling.Popularity(1, counts=COUNTS), shares(COUNTS)),
    "nearly all": (sampling.Popularity(11, counts=COUNTS), shares(COUNTS)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_every_id_is_drawn_with_the_stated_probability(name):
    sampler, probability = REPEATED[name]
    np.testing.assert_allclose(stated_counts(sampler, 14)[SPECIAL:], 5 * probability, rtol=1e-5)
    draws = 4000
    observed = np.bincount(drawn(sampler, draws).flatten(), minlength=14)
    assert (observed[:SPECIAL] == 0).all()
    assert (observed[SPECIAL:] > 0).all()
    expected = draws * 5 * probability
    # Pearson's statistic for counts that add up.
    squares = ((observed[SPECIAL:] - expected) ** 2 / expected).sum()
    assert squares < 11 + 5 * math.sqrt(22)


@pytest.mark.parametrize("name", UNIQUE)
def test_every_id_is_included_with_the_stated_probability(name):
    sampler, probability = UNIQUE[name]
    included = water_filled(probability, sampler.num_negatives)
    assert included.sum() == pytest.approx(sampler.num_negatives)
    np.testing.assert_allclose(stated_counts(sampler, 14)[SPECIAL:], included, rtol=1e-5)
    draws = 4000
    ids = drawn(sampler, draws)
    assert ids.shape == (draws, sampler.num_negatives)
    ordered = ids.sort(dim=1).values
    assert (ordered[:, 1:] != ordered[:, :-1]).all()
    observed = np.bincount(ids.flatten(), minlength=14)
    assert (observed[:SPECIAL] == 0).all()
    assert (observed[SPECIAL:] > 0).all()
    chi_square_is_small(observed[SPECIAL:], draws * included, draws * (included * (1 - included)).round(12))


def test_the_first_and_the_last_candidate_are_drawn():
    # Merlin's sampler never draws the last id, gives the first probability 0, and draws padding most of all.
    for sampler in (sampling.Popularity(3), sampling.Uniform(3), sampling.Popularity(3, unique=False)):
        ids = drawn(sampler, 300, table=rr.EmbeddingTable(8, dim=2))
        assert sorted(set(ids.flatten().tolist())) == [2, 3, 4, 5, 6, 7]
        assert sampler(ANY, table=rr.EmbeddingTable(8, dim=2)).log_q_of(torch.tensor([2, 7])).isfinite().all()


def test_unique_draws_do_not_prefer_low_ids():
    # `unique()[:n]` keeps the lowest ids: of 1,000 equal ones the upper half would come 3.3 times less often.
    ids = drawn(sampling.Popularity(100, counts=[1] * 1000), 200)
    upper = (ids >= 502).double().mean().item()
    assert upper == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / ids.numel()))


def test_any_two_candidates_may_meet():
    ids = drawn(sampling.Popularity(3, counts=[1] * 6), 600)
    met = {(a, b) for row in ids.tolist() for a in row for b in row if a != b}
    assert len(met) == 6 * 5


def test_all_candidates_at_once():
    for sampler in (
        sampling.Popularity(12, counts=COUNTS),
        sampling.Popularity(12, num_ids=14),
        sampling.Uniform(12, num_ids=14),
    ):
        negatives = sampler(ANY)
        assert sorted(negatives.ids.tolist()) == list(range(2, 14))
        assert torch.allclose(negatives.log_q, torch.zeros(12), atol=1e-6)
    with pytest.raises(ConfigError, match="at most 12 unique negatives"):
        sampling.Uniform(13, num_ids=14)
    with pytest.raises(ConfigError, match="at most 12 unique negatives"):
        sampling.Popularity(13, counts=COUNTS)
    with pytest.raises(ConfigError, match="at most 6 unique negatives"):
        sampling.Popularity(7)(ANY, table=rr.EmbeddingTable(8, dim=2))
    assert len(sampling.Popularity(50, counts=COUNTS, unique=False)(ANY).ids) == 50


@settings(max_examples=100)
@given(st.lists(st.integers(1, 1000) | st.just(10**9), min_size=1, max_size=12), st.data())
def test_inclusion_against_exact_fractions(counts, data):
    num = data.draw(st.integers(1, len(counts)))
    probability = np.array(counts) / np.sum(counts)
    got = inclusion_probabilities(torch.from_numpy(probability), num).numpy()
    # Within rounding of 1 an entry counts as certain, which moves the others by as little.
    np.testing.assert_allclose(got, water_filled(probability, num), rtol=1e-6, atol=1e-12)
    assert got.sum() == pytest.approx(num)


def test_a_large_vocabulary_is_drawn_without_repeats():
    sampler = sampling.Popularity(2000, num_ids=200_002)
    for seed in range(3):
        torch.manual_seed(seed)
        ids = sampler(ANY).ids
        assert len(ids.unique()) == 2000
        assert ids.min() >= SPECIAL
        assert ids.max() < 200_002


def test_draws_depend_on_the_seed_alone():
    for sampler, _ in (*REPEATED.values(), *UNIQUE.values()):
        assert torch.equal(drawn(sampler, 3), drawn(sampler, 3))
        assert not torch.equal(drawn(sampler, 20)[:10], drawn(sampler, 20)[10:])


def test_special_ids_count_as_the_rarest():
    for sampler in (
        sampling.Popularity(3, counts=COUNTS),
        sampling.InBatch(counts=COUNTS),
        sampling.Popularity(3, num_ids=14),
    ):
        log_q = sampler(ANY, torch.zeros(1, 2)).log_q_of(torch.arange(14))
        assert log_q.isfinite().all()
        assert (log_q[:SPECIAL] == log_q[SPECIAL:].min()).all()
    with pytest.raises(DataError, match=r"log_q, row 1: expected ids in \[0, 14\), got 14"):
        sampling.Uniform(3, num_ids=14)(ANY).log_q_of(torch.tensor([2, 14]))


def test_drawn_ids_are_embedded_by_the_table():
    table = rr.EmbeddingTable(30, dim=3)
    for sampler in (sampling.Uniform(6), sampling.Popularity(6)):
        negatives = sampler(ANY, table=table)
        assert torch.equal(negatives.embeddings, table.weight[negatives.ids])
        assert negatives.embeddings.requires_grad
    assert sampling.Uniform(6, num_ids=9)(ANY).embeddings is None


def test_a_grown_table_is_drawn_from_as_a_whole():
    table, sampler = rr.EmbeddingTable(5, dim=2), sampling.Popularity(3)
    assert drawn(sampler, 50, table=table).max() == 4
    table.grow(9)
    assert drawn(sampler, 300, table=table).max() == 8
    with pytest.raises(ConfigError, match="a table of at least 14 ids, got 9"):
        sampling.Popularity(3, counts=COUNTS)(ANY, table=table)


def test_in_batch_hands_the_batch_on_with_its_gradient():
    embeddings = torch.randn(4, 3, requires_grad=True)
    ids = torch.tensor([5, 0, 1, 5])
    negatives = sampling.InBatch()(ids, embeddings)
    assert negatives.embeddings is embeddings
    assert torch.equal(negatives.ids, ids)
    assert negatives.valid.tolist() == [True, False, False, True]
    assert negatives.log_q is None


def test_in_batch_states_how_often_an_id_is_expected():
    # A batch is a sample of the positives: each column holds an id with its share.
    counts = np.array(COUNTS)
    stated = sampling.InBatch(counts=counts)(torch.full((32,), 2)).log_q_of(torch.arange(2, 14)).double().exp().numpy()
    np.testing.assert_allclose(stated, 32 * shares(counts), rtol=1e-5)
    batches = np.random.default_rng(0).choice(12, size=(4000, 32), p=shares(counts))
    observed = np.bincount(batches.ravel(), minlength=12) / 4000
    np.testing.assert_allclose(stated, observed, rtol=0.1)


def test_the_sum_of_expected_counts_is_stated_by_a_mixture():
    mixed = sampling.Mixed(
        [
            sampling.InBatch(counts=COUNTS),
            sampling.Uniform(3, num_ids=14),
            sampling.Popularity(4, counts=COUNTS, unique=False),
        ]
    )
    torch.manual_seed(0)
    negatives = mixed(torch.tensor([3, 3, 7]), torch.zeros(3, 2), table=rr.EmbeddingTable(14, 2))
    assert negatives.ids[:3].tolist() == [3, 3, 7]
    assert len(negatives.ids) == 10
    assert negatives.embeddings.shape == (10, 2)
    stated = negatives.log_q_of(torch.arange(2, 14)).double().exp().numpy()
    np.testing.assert_allclose(stated, (3 + 4) * shares(COUNTS) + 3 / 12, rtol=1e-5)
    assert torch.equal(negatives.log_q, negatives.log_q_of(negatives.ids))
    assert sampling.Mixed([sampling.InBatch(), sampling.Uniform(3, num_ids=14)])(ANY).log_q is None
    assert (
        sampling.Mixed([sampling.InBatch(), sampling.Uniform(3, num_ids=14)])(ANY, torch.zeros(1, 2)).embeddings is None
    )


def test_mixtures_of_nothing_and_of_something_else_are_refused():
    for wrong, message in (([], "at least one sampler"), (sampling.InBatch(), "a list"), ([torch.nn.ReLU()], "a list")):
        with pytest.raises(ConfigError, match=message):
            sampling.Mixed(wrong)


@pytest.mark.parametrize(
    "sampler",
    [
        sampling.InBatch(),
        sampling.InBatch(counts=torch.tensor(COUNTS)),
        sampling.CrossBatch(7),
        sampling.CrossBatch(7, dim=3, counts=np.array(COUNTS)),
        sampling.Uniform(3),
        sampling.Uniform(3, num_ids=9, unique=False),
        sampling.Popularity(3, counts=COUNTS),
        sampling.Popularity(3, num_ids=9, unique=False),
        sampling.Mixed([sampling.InBatch(), sampling.Uniform(3, num_ids=9)]),
    ],
    ids=str,
)
def test_is_rebuilt_from_json(sampler):
    config = json.loads(json.dumps(rr.core.to_config(sampler), allow_nan=False))
    again = rr.core.from_config(config)
    assert rr.core.to_config(again) == config
    table, ids = rr.EmbeddingTable(14, dim=3), torch.tensor([4, 5])
    torch.manual_seed(0)
    first = sampler(ids, table(ids), table=table)
    torch.manual_seed(0)
    second = again(ids, table(ids), table=table)
    assert torch.equal(first.ids, second.ids)
    assert (first.log_q is None) == (second.log_q is None)
    if first.log_q is not None:
        assert torch.equal(first.log_q, second.log_q)


@pytest.mark.parametrize(
    "sampler", [sampling.InBatch(), sampling.CrossBatch(4), sampling.Uniform(2, num_ids=9)], ids=str
)
def test_wrong_positives_are_refused(sampler):
    for ids in (torch.tensor([2.0]), torch.tensor([[2]]), torch.tensor(2), torch.tensor([2], dtype=torch.int32)):
        with pytest.raises(ShapeError, match=r"int64 ids of shape \(batch,\)"):
            sampler(ids)
    for embeddings in (torch.zeros(2, 3), torch.zeros(1), torch.zeros(1, 1, 3)):
        with pytest.raises(ShapeError, match=r"embeddings of shape \(1, dim\)"):
            sampler(ANY, embeddings)


def test_empty_and_single_row_batches():
    empty = torch.empty(0, dtype=torch.int64)
    for sampler in (
        sampling.InBatch(counts=COUNTS),
        sampling.CrossBatch(3, counts=COUNTS),
        sampling.Uniform(2, num_ids=14),
    ):
        for ids in (empty, ANY):
            negatives = sampler(ids, torch.zeros(len(ids), 3), training=True)
            assert negatives.log_q.shape == negatives.ids.shape


def test_bad_arguments():
    for build, message in [
        (lambda: sampling.Uniform(0), "num_negatives >= 1"),
        (lambda: sampling.Uniform(1, num_ids=2), "num_ids > 2"),
        (lambda: sampling.Popularity(-1), "num_negatives >= 1"),
        (lambda: sampling.Popularity(1, counts=[1, 2], num_ids=5), "num_ids=4"),
        (lambda: sampling.Popularity(1, counts=[]), r"counts of shape \(keys,\)"),
        (lambda: sampling.InBatch(counts=[[1]]), r"counts of shape \(keys,\)"),
        (lambda: sampling.CrossBatch(0), "capacity >= 1"),
        (lambda: sampling.CrossBatch(1, dim=0), "dim >= 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build()
    for counts in ([1, -2], [1, 0.5], [1, math.nan]):
        with pytest.raises(DataError, match="counts, row 1"):
            sampling.Popularity(1, counts=counts)
    for sampler in (sampling.Uniform(2), sampling.Popularity(2)):
        with pytest.raises(ConfigError, match="num_ids, or a table"):
            sampler(ANY)
