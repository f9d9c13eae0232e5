"""Lists out of padded rectangles, and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ShapeError

LISTS = st.lists(st.lists(st.integers(1, 99), max_size=5), min_size=1, max_size=6)


@given(LISTS, st.integers(0, 3), st.booleans())
def test_a_padded_rectangle_gives_its_lists_back(lists, spare, with_mask):
    made = rr.Jagged.from_lists(lists)
    columns = max(map(len, lists)) + spare
    padded = made.to_padded(columns)
    weights = torch.rand(len(lists), columns)
    back = rr.Jagged.from_padded(padded, padded > 0 if with_mask else made.lengths(), weights)
    assert back.to_lists() == lists
    assert back.weights.tolist() == [
        weight for row, values in zip(weights.tolist(), lists, strict=True) for weight in row[: len(values)]
    ]
    assert rr.Jagged.from_padded(padded, made.lengths().int()).weights is None


def test_padding_may_stand_anywhere_and_values_be_vectors():
    values = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[False, True, True], [True, False, False]])
    made = rr.Jagged.from_padded(values, mask)
    assert made.to_lists() == [[[2.0, 3.0], [4.0, 5.0]], [[6.0, 7.0]]]


def test_pooled_by_the_weights_of_the_rectangle():
    table = rr.EmbeddingTable(9, 4)
    ids, weights = torch.tensor([[2, 3, 0], [4, 0, 0]]), torch.tensor([[0.25, 0.75, 9.0], [1.0, 9.0, 9.0]])
    pooled = table(rr.Jagged.from_padded(ids, ids > 0, weights))
    torch.testing.assert_close(pooled[0], 0.25 * table.weight[2] + 0.75 * table.weight[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4), torch.zeros(4, dtype=torch.int64)), "values of shape"),
        ((torch.zeros(2, 3), torch.tensor([1.0, 2.0])), "integer lengths"),
        ((torch.zeros(2, 3), torch.tensor([1, 2, 3])), "integer lengths"),
        ((torch.zeros(2, 3), torch.tensor([True, False])), "integer lengths"),
        ((torch.zeros(2, 3), torch.tensor([1, 4])), r"row 1: expected lengths in \[0, 3\], got 4"),
        ((torch.zeros(2, 3), torch.tensor([-1, 2])), "row 0"),
        ((torch.zeros(2, 3), torch.tensor([1, 2]), torch.ones(3)), "weights"),
    ],
)
def test_what_does_not_fit(arguments, message):
    with pytest.raises(ShapeError, match=message):
        rr.Jagged.from_padded(*arguments)
