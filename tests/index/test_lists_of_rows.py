"""`exclude` as a list of lists, which can mean one thing only."""

import pytest
import torch

import retrank as rr

torch.manual_seed(0)
QUERIES, CANDIDATES = torch.randn(3, 4), torch.randn(6, 4)
LISTS = [[0], [], [5, 1, 2]]


def indexes():
    yield rr.index.Exact(CANDIDATES, keys=list("abcdef"))
    yield rr.index.Exact(CANDIDATES.half(), keys=list("abcdef"))
    parts = lambda: iter([(CANDIDATES, list("abcdef"))])  # noqa: E731
    yield rr.index.Streaming(parts)


def test_lists_exclude_what_a_jagged_excludes():
    for index in indexes():
        expected = index.search_rows(QUERIES, 3, exclude=rr.Jagged.from_lists(LISTS))
        for lists in (LISTS, tuple(map(tuple, LISTS))):
            found = index.search_rows(QUERIES, 3, exclude=lists)
            assert torch.equal(found.rows, expected.rows)
            assert index.search(QUERIES, 3, exclude=lists).keys.tolist() == [
                ["abcdef"[row] for row in rows] for rows in expected.rows.tolist()
            ]
    exact = rr.index.Exact(CANDIDATES, keys=list("abcdef"))
    assert exact.evaluate(QUERIES, 2, exact, exclude=LISTS) == 1.0


@pytest.mark.parametrize("bad", [[0, 1, 2], [[0.5], [], []], [["a"], [], []], [[True], [], []], [0], "abc", 3])
def test_what_could_mean_another_thing_is_refused(bad):
    for index in indexes():
        with pytest.raises(rr.errors.ShapeError, match="exclude: expected a Jagged of candidate rows"):
            index.search_rows(QUERIES, 3, exclude=bad)


def test_lists_are_checked_like_a_jagged():
    for index in indexes():
        with pytest.raises(rr.errors.ShapeError, match="for 3 queries"):
            index.search_rows(QUERIES, 3, exclude=[[0]])
        with pytest.raises(rr.errors.DataError, match=r"exclude, row 1"):
            index.search_rows(QUERIES, 3, exclude=[[0], [6], []])
