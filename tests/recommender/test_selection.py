"""What caps count, and what is chosen, step by step against plain Python."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.recommender.caps import Caps
from retrank.recommender.column_members import ColumnMembers
from retrank.recommender.selection import select

VALUES = {
    "text": ["b", None, "a", "b", ""],
    "number": [3, 1, None, 3, -2],
    "float": [0.5, float("nan"), None, 0.5, -0.0],
    "flag": [True, None, False, True, True],
    "day": [date(2024, 1, 1), date(2024, 1, 2), None, date(2024, 1, 1), date(2020, 1, 1)],
    "texts": [["b", "a", "b"], [], None, ["a", None], [None]],
    "floats": [[1.0, float("nan")], [1.0], None, [], [2.0, 2.0]],
}


@pytest.mark.parametrize("name", VALUES)
def test_members_are_numbered_and_what_is_missing_has_none(name):
    found = ColumnMembers(pl.DataFrame({name: VALUES[name]})).of(name).to_lists()

    def values(one):
        return {v for v in (one if isinstance(one, list) else [one]) if v is not None and v == v}

    expected = [values(one) for one in VALUES[name]]
    numbers = {}
    for numbered, named in zip(found, expected, strict=True):
        assert len(numbered) == len(named)
        assert numbered == sorted(set(numbered))
        for other, others in zip(found, expected, strict=True):
            assert len(set(numbered) & set(other)) == len(named & others)
        numbers |= dict.fromkeys(numbered)
    assert sorted(numbers) == list(range(len(numbers)))


def test_fixed_lists_and_categories_are_numbered_too():
    table = pl.DataFrame({"pair": [[1, 2], [2, 3]], "kind": ["x", "y"]}).with_columns(
        pl.col("pair").cast(pl.Array(pl.Int64, 2)), pl.col("kind").cast(pl.Categorical)
    )
    members = ColumnMembers(table)
    assert members.of("pair").to_lists() == [[0, 1], [1, 2]]
    assert sorted(map(tuple, members.of("kind").to_lists())) == [(0,), (1,)]
    assert members.of("pair") is members.of("pair")


@pytest.mark.parametrize("column", [[{"a": 1}], [[[1]]], [b"x"]])
def test_what_cannot_be_counted_is_refused(column):
    with pytest.raises(DataError, match="caps of 'odd'"):
        ColumnMembers(pl.DataFrame({"odd": column})).of("odd")
    with pytest.raises(DataError, match=r"\['odd'\], got 'even'"):
        ColumnMembers(pl.DataFrame({"odd": column})).of("even")


@given(st.data())
def test_what_is_chosen_is_the_best_that_is_admitted_at_each_step(data):
    size, k = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    scores = np.sort(rng.integers(-4, 5, size).astype(np.float32))[::-1]
    embeddings = rng.normal(size=(size, 3))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    values = [data.draw(st.lists(st.integers(0, 3), max_size=2, unique=True)) for _ in range(20)]
    rows, most = rng.permutation(20)[:size], data.draw(st.integers(1, 3))
    caps = Caps({"value": most}, {"value": Jagged.from_lists(values)}, rows)
    diversity = data.draw(st.sampled_from([0, 0.1, 0.5, 1.0]))
    chosen = select(scores, k, caps, diversity, embeddings)
    spread = scores.max() - scores.min()
    relevance = (scores - scores.min()) / spread if spread else np.ones(size)
    taken, left = [], list(range(size))
    for place in [*chosen, None]:
        admitted = [
            one for one in left if all(sum(v in values[rows[t]] for t in taken) < most for v in values[rows[one]])
        ]
        if place is None:
            assert len(taken) == k or not admitted
            return
        worth = {
            one: (1 - diversity) * relevance[one]
            - (diversity * max(embeddings[one] @ embeddings[t] for t in taken) if taken and diversity else 0)
            for one in admitted
        }
        assert worth[place] >= max(worth.values()) - 1e-9
        equal = [one for one in admitted if worth[one] == worth[place]]
        assert diversity or place == min(equal)
        taken.append(place)
        left.remove(place)
