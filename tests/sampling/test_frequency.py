import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, ShapeError
from retrank.sampling import StreamingFrequency


def slow(batches, rate):
    """The gaps of ids that share no slot, one occurrence after the other: last row, average gap, times seen."""
    last, gap, seen, now = {}, {}, {}, 0
    for batch in batches:
        now += len(batch)
        for key in set(batch):
            repeats = batch.count(key)
            new = (now - last.get(key, 0)) / repeats
            for _ in range(repeats):  # each occurrence pulls the average towards the batch's mean gap
                seen[key] = seen.get(key, 0) + 1
            weight = max(1 - (1 - rate) ** repeats, repeats / seen[key])
            gap[key] = (1 - weight) * gap.get(key, 0.0) + weight * new
            last[key] = now
    return gap, now


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(2, 9), max_size=7), max_size=6),
    st.floats(0.01, 1),
    st.integers(1, 3),
)
def test_agrees_with_counting_occurrence_by_occurrence(batches, rate, num_hashes):
    frequency = StreamingFrequency(1_000_003, num_hashes=num_hashes, rate=rate)
    for number, batch in enumerate(batches):
        estimated = frequency(torch.tensor(batch, dtype=torch.int64)).exp()
        gap, _ = slow(batches[: number + 1], rate)
        np.testing.assert_allclose(estimated, [1 / gap[key] for key in batch], rtol=1e-4)
    _, now = slow(batches, rate)
    assert frequency.eval()(torch.tensor([10])).item() == pytest.approx(-math.log(now + 1), rel=1e-5, abs=1e-6)


def test_is_the_published_algorithm_up_to_a_constant_where_no_batch_repeats_an_id():
    rng, rate, size = np.random.default_rng(0), 0.25, 4
    frequency, last, gap, times = StreamingFrequency(1_000_003, rate=rate), {}, {}, {}
    for step in range(1, 60):
        batch = rng.choice(12, size=size, replace=False)
        log_q = frequency(torch.from_numpy(batch))
        for key in batch:  # Yi et al., algorithm 2, after the first 1 / rate occurrences
            times[key] = times.get(key, 0) + 1
            weight = max(rate, 1 / times[key])
            gap[key] = (1 - weight) * gap.get(key, 0) + weight * (step - last.get(key, 0))
            last[key] = step
        published = np.log([1 / gap[key] for key in batch])
        np.testing.assert_allclose(log_q, published - math.log(size), rtol=1e-5)


def test_finds_the_shares_of_a_stream_also_of_ids_that_every_batch_repeats():
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.25, 0.125, 0.1, 0.02, 0.005])
    frequency = StreamingFrequency(10_007, num_hashes=2, rate=0.002)
    for _ in range(3000):
        frequency(torch.from_numpy(rng.choice(6, size=64, p=shares)))
    found = frequency.eval()(torch.arange(6)).exp().numpy()
    np.testing.assert_allclose(found[:5], shares[:5], rtol=0.1)
    assert found[5] == pytest.approx(shares[5], rel=0.4)


def test_follows_a_stream_that_drifts():
    frequency = StreamingFrequency(1009, rate=0.1)
    for batch in ([3, 3, 3, 4],) * 100 + ([3, 4, 4, 4],) * 100:
        frequency(torch.tensor(batch))
    np.testing.assert_allclose(frequency.eval()(torch.tensor([3, 4])).exp(), [0.25, 0.75], rtol=1e-3)


def test_more_hashes_take_away_collisions():
    ids = torch.arange(200)
    errors = []
    for num_hashes in (1, 4):
        frequency = StreamingFrequency(600, num_hashes=num_hashes)
        for _ in range(20):
            frequency(ids)
        errors.append((frequency.eval()(ids).exp() * 200 - 1).abs().mean().item())
        assert (frequency(ids).exp() * 200 > 0.99).all()  # a collision never makes an id look rarer
    assert errors[0] > 0.1
    assert errors[1] < 0.1 * errors[0]


def test_it_learns_only_in_training_mode_and_its_state_is_saved():
    first, second = (StreamingFrequency(100, rate=0.3) for _ in range(2))
    batches = [torch.tensor([1, 2, 2]), torch.tensor([2, 3, 4, 4]), torch.tensor([1, 1])]
    first(batches[0])
    before = {name: value.clone() for name, value in first.state_dict().items()}
    first.eval()(batches[1])
    assert set(before) == {"last_row", "gap", "num_seen", "num_rows"}
    assert all(torch.equal(before[name], value) for name, value in first.state_dict().items())
    second.load_state_dict(first.train().state_dict())
    for batch in batches[1:]:
        assert torch.equal(first(batch), second(batch))


def test_observing_and_estimating_are_the_halves_of_a_call():
    whole, halves = (StreamingFrequency(100, rate=0.3) for _ in range(2))
    for ids in (torch.tensor([1, 2, 2]), torch.tensor([2, 3, 4, 4])):
        expected = whole(ids)
        halves.eval().observe(ids)  # the mode is that of a call alone
        for _ in range(2):
            assert torch.equal(halves.train().estimate(ids), expected)
    assert all(torch.equal(value, halves.state_dict()[name]) for name, value in whole.state_dict().items())
    for half in (halves.observe, halves.estimate):
        with pytest.raises(ShapeError, match="integer ids"):
            half(torch.zeros(2, 2))


def test_negative_large_and_narrow_ids_and_empty_batches():
    frequency = StreamingFrequency(64, num_hashes=3)
    assert frequency(torch.zeros(0, dtype=torch.int64)).shape == (0,)
    ids = torch.tensor([-(2**63), -1, 0, 2**63 - 1])
    assert frequency(ids).isfinite().all()
    assert torch.equal(frequency.eval()(ids[1:3]), frequency(ids[1:3].to(torch.int32)))


def test_bad_arguments():
    for arguments in ((0,), (-4,)):
        with pytest.raises(ConfigError, match="slot"):
            StreamingFrequency(*arguments)
    with pytest.raises(ConfigError, match="hash"):
        StreamingFrequency(5, num_hashes=0)
    for rate in (0.0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="rate"):
            StreamingFrequency(5, rate=rate)
    for ids in (torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2), torch.zeros(2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="integer ids"):
            StreamingFrequency(5)(ids)


def test_is_rebuilt_from_json():
    frequency = StreamingFrequency(7, num_hashes=2, rate=0.5)
    again = rr.core.from_config(rr.core.to_config(frequency))
    assert again.config == frequency.config == {"num_slots": 7, "num_hashes": 2, "rate": 0.5}
    ids = torch.arange(30)
    assert torch.equal(again(ids), frequency(ids))
