import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.allocations import Recorded

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.layers import co_occurrence
from retrank.layers.co_occurrence import CoOccurrence

NUM_IDS = 7
histories = st.lists(st.lists(st.integers(0, NUM_IDS - 1), unique=True, max_size=5), max_size=8)
recents = st.lists(st.lists(st.integers(0, NUM_IDS - 1), max_size=6), min_size=1, max_size=6)


def counted(lists):
    together, alone = np.zeros((NUM_IDS, NUM_IDS)), np.zeros(NUM_IDS)
    for row in map(set, lists):
        for i in row:
            alone[i] += 1
            for j in row:
                together[i, j] += i != j
    return together, alone


def strongest(lists, num_neighbors):
    """Keep the pairs that meet most often, then the most similar, then those of the smallest ids."""
    together, alone = counted(lists)
    pairs = [(i, j) for i in range(NUM_IDS) for j in range(i + 1, NUM_IDS) if together[i, j]]
    pairs.sort(key=lambda pair: (-together[pair], -together[pair] / np.sqrt(alone[pair[0]] * alone[pair[1]]), pair))
    kept = np.zeros_like(together)
    for i, j in pairs[: NUM_IDS * num_neighbors // 2]:
        kept[i, j] = kept[j, i] = together[i, j]
    return kept, alone


def oracle(lists, recent, candidates, windows, num_neighbors=NUM_IDS):
    together, alone = strongest(lists, num_neighbors)
    out = np.zeros((len(candidates), len(windows)))
    for p, (row, c) in enumerate(zip(recent, candidates, strict=True)):
        for w, window in enumerate(windows):
            last = row[-window:]
            values = [together[i, c] / np.sqrt(alone[i] * alone[c]) if together[i, c] else 0 for i in last]
            out[p, w] = np.mean(values) if values else 0
    return out


@given(histories, recents, st.data())
def test_means_of_cosines(lists, recent, data):
    candidates = data.draw(st.lists(st.integers(0, NUM_IDS - 1), min_size=len(recent), max_size=len(recent)))
    layer = CoOccurrence(NUM_IDS, windows=[1, 3])
    layer.fit(Jagged.from_lists(lists))
    got = layer(Jagged.from_lists(recent), torch.tensor(candidates))
    np.testing.assert_allclose(got, oracle(lists, recent, candidates, [1, 3]), atol=1e-6)


def dense(layer):
    row = torch.arange(layer.num_ids).repeat_interleave(layer.starts.diff())
    cosines = torch.zeros(layer.num_ids, layer.num_ids)
    cosines[row, layer.neighbors.long()] = layer.cosines
    return cosines.numpy()


repeated = st.lists(st.lists(st.integers(0, NUM_IDS - 1), max_size=6), max_size=9)


@given(lists=repeated, num_neighbors=st.integers(1, NUM_IDS), at_once=st.sampled_from([1, 2, 5, 20, 1000]))
def test_the_most_frequent_pairs_are_kept_whatever_is_counted_at_once(lists, num_neighbors, at_once):
    layer = CoOccurrence(NUM_IDS, windows=[1], num_neighbors=num_neighbors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_occurrence, "_MEETINGS", at_once)
        layer.fit(Jagged.from_lists(lists))
    together, alone = strongest(lists, num_neighbors)
    with np.errstate(invalid="ignore"):
        expected = np.where(together > 0, together / np.sqrt(np.outer(alone, alone)), 0)
    np.testing.assert_allclose(dense(layer), expected, rtol=1e-6)
    assert len(layer.neighbors) <= NUM_IDS * num_neighbors
    for one in range(NUM_IDS):
        row = layer.neighbors[layer.starts[one] : layer.starts[one + 1]]
        assert (row.diff() > 0).all()
        assert one not in row


@given(lists=repeated, recent=recents, num_neighbors=st.integers(1, 3), data=st.data())
def test_means_of_what_is_kept(lists, recent, num_neighbors, data):
    candidates = data.draw(st.lists(st.integers(0, NUM_IDS - 1), min_size=len(recent), max_size=len(recent)))
    layer = CoOccurrence(NUM_IDS, windows=[1, 3], num_neighbors=num_neighbors)
    layer.fit(Jagged.from_lists(lists))
    got = layer(Jagged.from_lists(recent), torch.tensor(candidates))
    np.testing.assert_allclose(got, oracle(lists, recent, candidates, [1, 3], num_neighbors), atol=1e-6)


@given(
    values=st.lists(st.sampled_from([1.0, 1.25, 2.0, 3.5]), max_size=12),
    most=st.integers(1, 12),
)
def test_the_largest_are_chosen_and_of_equal_ones_the_first(values, most):
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    chosen = co_occurrence._largest(torch.tensor(values, dtype=torch.float64), most)
    assert chosen.nonzero()[:, 0].tolist() == sorted(order[:most])


def test_what_was_saved_with_all_neighbors_loads_and_is_counted_again_with_fewer():
    lists = Jagged.from_lists([[1, 2, 3, 4], [1, 2, 5], [1, 2, 6], [3, 4]])
    everything = CoOccurrence(NUM_IDS, windows=(1, 3), num_neighbors=NUM_IDS)
    everything.fit(lists)
    config = to_config(everything)
    del config["arguments"]["num_neighbors"]  # as it was before there was a choice
    again = from_config(config)
    again.num_neighbors = 1  # fewer than were saved
    again.load_state_dict(everything.state_dict())
    pairs = Jagged.from_lists([[1, 2]] * 4), torch.arange(1, 5)
    assert torch.equal(again(*pairs), everything(*pairs))
    again.fit(lists)
    assert len(again.neighbors) <= NUM_IDS < len(everything.neighbors)


def test_memory_is_that_of_the_pairs_that_are_kept():
    g = np.random.default_rng(0)
    rows = [g.choice(3000, 600, replace=False) for _ in range(20)]  # 7 million meetings, 58 MB as numbers
    lists = Jagged.from_lengths(torch.from_numpy(np.concatenate(rows)), torch.full((20,), 600))
    layer = CoOccurrence(3000, num_neighbors=10)
    layer.fit(Jagged.from_lists([[1, 2]]))  # what is loaded once
    with Recorded() as record:
        layer.fit(lists)
    assert record.largest < 8 * 1.5 * 2**20
    assert sum(part.nbytes for part in layer.state_dict().values()) < 3000 * 10 * 8 + 3002 * 8


@given(histories)
def test_counts(lists):
    x = np.zeros((len(lists), NUM_IDS))
    for row, ids in enumerate(lists):
        x[row, ids] = 1
    found = co_occurrence.co_occurrences(Jagged.from_lists(lists), NUM_IDS)
    np.testing.assert_array_equal(found.to_dense(), x.T @ x)


def test_nothing_learned_is_nothing_similar():
    assert CoOccurrence(NUM_IDS)(Jagged.from_lists([[1, 2]]), torch.tensor([3])).tolist() == [[0, 0, 0, 0]]


def test_state_and_config_round_trip():
    layer = CoOccurrence(NUM_IDS, windows=(2,))
    layer.fit(Jagged.from_lists([[1, 2, 3], [2, 3]]))
    again = from_config(to_config(layer))
    again.load_state_dict(layer.state_dict())
    pairs = Jagged.from_lists([[1, 2]]), torch.tensor([3])
    assert torch.equal(again(*pairs), layer(*pairs))


@pytest.mark.parametrize("lists", [[], [[]], [[], [3]], [[3], [3]], [[2, 2, 2]]])
def test_histories_without_a_pair_make_nothing_similar(lists):
    layer = CoOccurrence(NUM_IDS, windows=[1])
    layer.fit(Jagged.from_lists([[1, 2]]))
    layer.fit(Jagged.from_lists(lists))
    assert not len(layer.neighbors)
    assert layer(Jagged.from_lists([[2], [3]]), torch.tensor([1, 3])).tolist() == [[0], [0]]


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="windows"):
        CoOccurrence(5, windows=[])
    for bad in (0, -1, 1.5, True, float("nan"), "3"):
        with pytest.raises(ConfigError, match="num_neighbors"):
            CoOccurrence(5, num_neighbors=bad)
    with pytest.raises(ShapeError, match="one list of int64 ids per id"):
        CoOccurrence(5)(Jagged.from_lists([[1]]), torch.tensor([1, 2]))


def test_an_id_that_the_vocabulary_gained_later_is_like_no_other():
    layer = CoOccurrence(5, windows=[1])
    layer.fit(Jagged.from_lists([[2, 3], [2, 3], [2, 4]]))
    recent = Jagged.from_lists([[2], [1], [9], [2]])  # 1 · 5 + 8 is the number of the pair 2, 3
    assert layer(recent, torch.tensor([3, 8, 3, 9])).flatten().tolist() == pytest.approx([0.8165, 0, 0, 0], abs=1e-4)


@pytest.mark.parametrize("bad", [5, -1, 2**40])
def test_ids_that_cannot_be_counted_are_refused(bad):
    with pytest.raises(DataError, match=rf"row 1: expected ids in \[0, 5\), got {bad}"):
        CoOccurrence(5).fit(Jagged.from_lists([[2, 3], [2, bad]]))
