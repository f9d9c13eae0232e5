import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged

rows_of_lists = st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=6)


@given(rows_of_lists)
def test_lists_round_trip(lists):
    jagged = Jagged.from_lists(lists)
    assert jagged.to_lists() == lists
    assert jagged.lengths().tolist() == [len(row) for row in lists]
    assert jagged.row_index().tolist() == [r for r, row in enumerate(lists) for _ in row]


@given(rows_of_lists.filter(len), st.data())
def test_take_gathers_rows_with_repeats(lists, data):
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    assert Jagged.from_lists(lists).take(index).to_lists() == [lists[i] for i in index]


@given(rows_of_lists, st.integers(0, 7), st.integers(0, 7))
def test_slices_are_views_of_the_same_rows(lists, start, stop):
    jagged = Jagged.from_lists(lists)
    part = jagged[start:stop]
    assert part.to_lists() == lists[start:stop]
    if len(part.values):
        assert part.values.untyped_storage().data_ptr() == jagged.values.untyped_storage().data_ptr()


@given(rows_of_lists, st.integers(0, 5))
def test_padding_keeps_the_first_values(lists, length):
    expected = [(row + [-9] * length)[:length] for row in lists]
    padded = Jagged.from_lists(lists).to_padded(length, fill=-9)
    assert padded.tolist() == expected
    assert padded.shape == (len(lists), length)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers()), max_size=20))
def test_group_is_stable(pairs):
    pairs = [(row, value % 1000) for row, value in pairs]
    rows, values = (torch.tensor([p[i] for p in pairs], dtype=torch.int64) for i in (0, 1))
    grouped = Jagged.group(rows, values, num_rows=5)
    assert grouped.to_lists() == [[v for r, v in pairs if r == row] for row in range(5)]


@given(rows_of_lists, rows_of_lists)
def test_concat(first, second):
    assert Jagged.concat([Jagged.from_lists(first), Jagged.from_lists(second)]).to_lists() == first + second


def test_weights_travel_with_their_values():
    jagged = Jagged(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3]), torch.tensor([0.1, 0.2, 0.3]))
    taken = jagged.take([1, 0])
    np.testing.assert_allclose(taken.weights, [0.3, 0.1, 0.2])
    np.testing.assert_allclose(jagged[1:].weights, [0.3])
    np.testing.assert_allclose(Jagged.concat([taken, jagged]).weights, [0.3, 0.1, 0.2, 0.1, 0.2, 0.3])


def test_nested_shares_the_values():
    jagged = Jagged.from_lists([[1, 2], [], [3]])
    nested = jagged.to_nested()
    assert [row.tolist() for row in nested.unbind()] == jagged.to_lists()
    assert nested.values().data_ptr() == jagged.values.data_ptr()


def test_empty_rows():
    assert Jagged.empty(3).to_lists() == [[], [], []]
    assert Jagged.from_lists([]).to_padded().shape == (0, 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Jagged(torch.tensor([1]), torch.tensor([0, 1], dtype=torch.int32)),
        lambda: Jagged(torch.tensor([1]), torch.tensor([], dtype=torch.int64)),
        lambda: Jagged(torch.tensor(1), torch.tensor([0, 1])),
        lambda: Jagged(torch.tensor([1]), torch.tensor([0, 1]), torch.ones(2)),
        lambda: Jagged.from_lengths(torch.tensor([1, 2]), torch.tensor([1])),
        lambda: Jagged.from_lengths(torch.tensor([1, 2]), torch.tensor([3, -1])),
        lambda: Jagged.from_lengths(torch.tensor([1, 2]), torch.tensor([1.0, 1.0])),
        lambda: Jagged.from_lengths(torch.tensor([1, 2]), torch.tensor(2)),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([0, 1])),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([0, 3])),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([1, 2])),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([0, 2, 1, 2])),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([-1, 2])),
        lambda: Jagged(torch.tensor([1, 2]), torch.tensor([0, 2**62, 2])),
        lambda: Jagged.from_lists([[1], [2]]).with_values(torch.tensor([1])),
        lambda: Jagged.concat([]),
        lambda: Jagged.from_lists([[1], [2]])[::2],
    ],
)
def test_parts_that_do_not_fit_are_refused(build):
    with pytest.raises(ShapeError, match="Jagged"):
        build()


def test_offsets_that_were_changed_in_place_are_found_on_demand():
    jagged = Jagged.from_lists([[1], [2, 3]])
    jagged.check()
    jagged.offsets[1] = 9
    with pytest.raises(ShapeError, match=r"got \[0, 9, 3\]"):
        jagged.check()


@pytest.mark.parametrize(
    "use",
    [Jagged.row_index, Jagged.to_padded, lambda jagged: jagged.take([0]), lambda jagged: jagged.take([2, 1, 2])],
    ids=["row_index", "to_padded", "take one", "take"],
)
@pytest.mark.parametrize("changed", [[0, 9, 3], [0, -1, 3], [0, 10**12, 3], [0, -(10**12), 3]])
def test_offsets_that_were_changed_in_place_do_not_reach_torch(use, changed):
    jagged = Jagged.from_lists([[1], [2, 3]])
    jagged = Jagged.concat([jagged, Jagged.from_lists([[4]])])
    jagged.offsets[: len(changed)] = torch.tensor(changed)  # torch would write beyond its memory
    with pytest.raises(ShapeError, match="offsets that ascend"):
        use(jagged)


def test_other_values_in_the_same_rows():
    jagged = Jagged(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3]), torch.tensor([0.1, 0.2, 0.3]))
    doubled = jagged.with_values(jagged.values * 2)
    assert doubled.to_lists() == [[2, 4], [6]]
    assert doubled.weights is jagged.weights


@pytest.mark.parametrize("rows", [[2], [-1], [0, 5], [2**40]])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(DataError, match=r"Jagged.take.*rows in \[0, 2\)"):
        Jagged.from_lists([[1], [2]]).take(rows)
    with pytest.raises(DataError, match="Jagged.take"):
        Jagged.empty(0).take(rows)


def test_offsets_are_not_looked_at_where_one_would_have_to_wait():
    Jagged(torch.empty(2, device="meta"), torch.empty(3, dtype=torch.int64, device="meta")).check()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_nested_tensors_are_not_taken_for_their_values():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])
    for parts in ((nested, torch.tensor([0, 2])), (torch.ones(2), torch.tensor([0, 2]), nested)):
        with pytest.raises(ShapeError, match="Jagged"):
            Jagged(*parts)


VALUES, OFFSETS, WEIGHTS = np.array([4, 2, 7]), np.array([0, 2, 2, 3]), np.array([0.5, 0.25, 1.0], dtype=np.float32)
MADE = {
    "parts": lambda kind: Jagged(kind(VALUES), kind(OFFSETS), kind(WEIGHTS)),
    "lengths": lambda kind: Jagged.from_lengths(kind(VALUES), kind(np.array([2, 0, 1])), kind(WEIGHTS)),
    "short lengths": lambda kind: Jagged.from_lengths(kind(VALUES), kind(np.array([2, 0, 1], dtype=np.int8))),
    "padded": lambda kind: Jagged.from_padded(kind(np.array([[4, 2], [9, 9], [7, 0]])), kind(np.array([2, 0, 1]))),
    "mask": lambda kind: Jagged.from_padded(
        kind(np.array([[4, 2], [7, 0]])), kind(np.array([[True, True], [True, False]])), kind(np.ones((2, 2)))
    ),
    "group": lambda kind: Jagged.group(kind(np.array([2, 0, 2])), kind(VALUES), 3),
    "take": lambda kind: Jagged.from_lists([[4, 2], [], [7]]).take(kind(np.array([2, 0]))),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())
def test_arrays_mean_what_tensors_mean(make):
    ours, expected = make(lambda array: array), make(torch.from_numpy)
    assert torch.equal(ours.values, expected.values)
    assert torch.equal(ours.offsets, expected.offsets)
    assert (ours.weights is None) == (expected.weights is None)
    assert ours.weights is None or torch.equal(ours.weights, expected.weights)


def test_an_array_is_copied():
    values = VALUES.copy()
    jagged = Jagged(values, OFFSETS)
    values[:] = 9
    assert jagged.to_lists() == [[4, 2], [], [7]]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Jagged([4, 2], torch.tensor([0, 2])),
        lambda: Jagged(VALUES, [0, 2, 2, 3]),
        lambda: Jagged(VALUES, OFFSETS.astype(np.int32)),
        lambda: Jagged(VALUES.astype(str), OFFSETS),
        lambda: Jagged(VALUES, OFFSETS, [1.0, 1.0, 1.0]),
        lambda: Jagged.from_lengths(VALUES, [2, 1]),
        lambda: Jagged.from_lengths([4, 2], np.array([2])),
        lambda: Jagged.from_lengths(VALUES, np.array([2.0, 1.0])),
        lambda: Jagged.from_lengths(VALUES[:1], np.array([True])),
        lambda: Jagged.from_lengths(VALUES, np.array([2, 1], dtype=np.uint64)),
        lambda: Jagged.from_padded([[1, 2]], np.array([1])),
        lambda: Jagged.from_padded(np.ones((1, 2)), [1]),
        lambda: Jagged.from_padded(np.ones((1, 2)), np.array([1]), [[1.0, 1.0]]),
        lambda: Jagged.from_lists([1, 2]),
        lambda: Jagged.from_lists([["a"]]),
        lambda: Jagged.from_lists([[1.5]]),
        lambda: Jagged.from_lists([[None]]),
        lambda: Jagged.from_lists([[2**70]]),
        lambda: Jagged.group([0], VALUES[:1], 1),
        lambda: Jagged.group(np.array([0]), VALUES, 1),
        lambda: Jagged.from_lists([[1], [2]]).take([0.5]),
        lambda: Jagged.from_lists([[1], [2]]).take(torch.tensor([True, False])),
        lambda: Jagged.from_lists([[1], [2]]).take([[0, 1]]),
        lambda: Jagged.from_lists([[1], [2]]).take(["a"]),
        lambda: Jagged.from_lists([[1], [2]]).take("0"),
        lambda: Jagged.from_lists([[1], [2]]).take(0),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(build):
    with pytest.raises(ShapeError, match="Jagged"):
        build()


@pytest.mark.parametrize("row", [-1, 2])
def test_a_group_that_is_not_there_is_refused(row):
    with pytest.raises(DataError, match=r"Jagged.group, place 1: expected rows in \[0, 2\)"):
        Jagged.group(np.array([0, row]), VALUES[:2], 2)
