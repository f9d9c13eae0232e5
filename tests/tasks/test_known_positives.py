"""What a query is known to like is no negative of it, against a definition by sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ShapeError

IDS = st.integers(0, 5)


@st.composite
def batches(draw):
    queries = draw(st.lists(IDS, max_size=8))
    candidates = draw(st.lists(IDS, min_size=len(queries), max_size=len(queries) + 4))
    lists = st.lists(st.integers(-1, 9), max_size=4)
    known = draw(st.none() | st.lists(lists, min_size=len(queries), max_size=len(queries)))
    return queries, candidates, known


@given(batches())
def test_the_mask_is_the_definition(batch):
    queries, candidates, known = batch
    likes = {query: set() for query in queries}
    for row, query in enumerate(queries):
        likes[query] |= {candidates[row], *([] if known is None else known[row])}
    expected = [
        [column == row or candidate not in likes[query] for column, candidate in enumerate(candidates)]
        for row, query in enumerate(queries)
    ]
    mask = rr.tasks.mask_known_positives(
        torch.tensor(queries, dtype=torch.int64),
        torch.tensor(candidates, dtype=torch.int64),
        None if known is None else rr.Jagged.from_lists(known),
    )
    assert mask.tolist() == expected
    assert mask.dtype == torch.bool


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), rr.Jagged.from_lists([[1]])),
    ],
)
def test_what_does_not_fit(arguments):
    with pytest.raises(ShapeError, match="mask_known_positives"):
        rr.tasks.mask_known_positives(*arguments)
