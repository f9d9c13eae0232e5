import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.layers.co_occurrence import CoOccurrence, co_occurrences

NUM_IDS = 7
histories = st.lists(st.lists(st.integers(0, NUM_IDS - 1), unique=True, max_size=5), max_size=8)
recents = st.lists(st.lists(st.integers(0, NUM_IDS - 1), max_size=6), min_size=1, max_size=6)


def oracle(lists, recent, candidates, windows):
    together, alone = np.zeros((NUM_IDS, NUM_IDS)), np.zeros(NUM_IDS)
    for row in lists:
        for i in row:
            alone[i] += 1
            for j in row:
                together[i, j] += i != j
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


@given(histories)
def test_counts(lists):
    x = np.zeros((len(lists), NUM_IDS))
    for row, ids in enumerate(lists):
        x[row, ids] = 1
    np.testing.assert_array_equal(co_occurrences(Jagged.from_lists(lists), NUM_IDS).to_dense(), x.T @ x)


def test_nothing_learned_is_nothing_similar():
    assert CoOccurrence(NUM_IDS)(Jagged.from_lists([[1, 2]]), torch.tensor([3])).tolist() == [[0, 0, 0, 0]]


def test_state_and_config_round_trip():
    layer = CoOccurrence(NUM_IDS, windows=(2,))
    layer.fit(Jagged.from_lists([[1, 2, 3], [2, 3]]))
    again = from_config(to_config(layer))
    again.load_state_dict(layer.state_dict())
    pairs = Jagged.from_lists([[1, 2]]), torch.tensor([3])
    assert torch.equal(again(*pairs), layer(*pairs))


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="windows"):
        CoOccurrence(5, windows=[])
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
