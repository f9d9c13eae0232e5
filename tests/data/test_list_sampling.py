import time
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankWarning
from retrank.data import sample_lists


def oracle(queries, size, per_query, seed):
    """Row numbers of the lists, and the query of each, as TFRS draws them."""
    random, rows = np.random.RandomState(seed), {}
    for row, query in enumerate(queries):
        rows.setdefault(query, []).append(row)
    return [
        (query, [own[place] for place in random.choice(range(len(own)), size=size, replace=False)])
        for query, own in rows.items()
        if len(own) >= size
        for _ in range(per_query)
    ]


@pytest.mark.filterwarnings("ignore:.*no list")
@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_draws_are_those_of_the_tutorial(queries, size, per_query, seed):
    table = pl.DataFrame({"row": range(len(queries)), "query": queries, "name": [f"r{i}" for i in range(len(queries))]})
    expected = oracle(queries, size, per_query, seed)
    if not expected:
        with pytest.raises(DataError, match=rf"column 'query'.*a query with {size} rows or more"):
            sample_lists(table, query="query", size=size, per_query=per_query, seed=seed)
        return
    lists = sample_lists(table, query="query", size=size, per_query=per_query, seed=seed)
    assert lists.columns == ["row", "query", "name"]
    assert lists.schema == {
        "row": pl.Array(pl.Int64, size), "query": pl.Int64, "name": pl.Array(pl.String, size),
    }  # fmt: skip
    assert list(lists.select("query", "row").iter_rows()) == expected
    assert lists["name"].to_list() == [[f"r{row}" for row in rows] for _, rows in expected]


def test_queries_that_fill_no_list_are_counted_aloud():
    table = pl.DataFrame({"user": ["a", "b", "a", "c"], "film": [1, 2, 3, 4]})
    with pytest.warns(RetrankWarning, match="2 of 3 queries have fewer than 2 rows and no list"):
        lists = sample_lists(table, query="user", size=2, per_query=3, seed=0)
    assert lists["user"].to_list() == ["a"] * 3
    assert all(sorted(films) == [1, 3] for films in lists["film"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(sample_lists(table, query="user", size=1, per_query=1, seed=0)) == 3


def test_a_query_alone_and_rows_twice():
    lists = sample_lists(pl.DataFrame({"q": [7, 7], "x": [0.5, 0.5]}), query="q", size=2, per_query=1, seed=1)
    assert lists.rows() == [(7, [0.5, 0.5])]


def test_the_order_of_columns_and_missing_values_are_kept():
    table = pl.DataFrame({"x": [None, 1], "q": ["a", "a"]})
    lists = sample_lists(table, query="q", size=2, per_query=1, seed=0)
    assert lists.columns == ["x", "q"]
    assert set(lists["x"].to_list()[0]) == {None, 1}


def test_a_file_is_read_as_a_table_is(tmp_path):
    table = pl.DataFrame({"q": [1, 2, 1, 2, 1], "x": [1, 2, 3, 4, 5]})
    table.write_parquet(tmp_path / "x.parquet")
    options = {"query": "q", "size": 2, "per_query": 2, "seed": 3}
    assert sample_lists(tmp_path / "x.parquet", **options).equals(sample_lists(table, **options))


def test_bad_input():
    table = pl.DataFrame({"q": [1, 1, 2], "x": [1, 2, 3], "tags": [["a"], ["b"], []]})
    options = {"query": "q", "size": 2, "per_query": 1, "seed": 0}
    with pytest.raises(DataError, match=r"column 'tags'.*one value per row, got List\(String\)"):
        sample_lists(table, **options)
    plain = table.drop("tags")
    with pytest.raises(DataError, match="column 'user'"):
        sample_lists(plain, **(options | {"query": "user"}))
    with pytest.raises(DataError, match="column 'q', row 1"):
        sample_lists(pl.DataFrame({"q": ["a", None]}), **options)
    with pytest.raises(DataError, match="text or integer keys"):
        sample_lists(pl.DataFrame({"q": [0.5]}), **options)
    with pytest.raises(DataError, match="at least one row"):
        sample_lists(plain[:0], **options)
    with pytest.raises(DataError, match="a query with 3 rows or more, got 2 at most"):
        sample_lists(plain, **(options | {"size": 3}))
    for wrong in ({"size": 0}, {"per_query": 0}, {"seed": -1}, {"seed": 2**32}):
        with pytest.raises(ConfigError, match="size >= 1, per_query >= 1 and 0 <= seed"):
            sample_lists(plain, **(options | wrong))


def test_many_lists_are_fast():
    queries = np.random.default_rng(0).integers(0, 900, 80_000)
    table = pl.DataFrame({"q": queries, "x": np.arange(80_000)})
    before = time.process_time()
    assert len(sample_lists(table, query="q", size=5, per_query=50, seed=42)) == 45_000
    assert time.process_time() - before < 2


def test_a_feature_space_makes_rectangles_of_them():
    table = pl.DataFrame({"q": [1, 1, 1, 2, 2], "film": list("abcab"), "stars": [5, 3, 1, 2, 4]})
    lists = sample_lists(table, query="q", size=2, per_query=2, seed=0)
    kinds = {
        "q": rr.features.Categorical(), "film": rr.features.CategoricalList(), "stars": rr.features.Passthrough(),
    }  # fmt: skip
    space = rr.FeatureSpace(kinds).fit(lists)
    batch = space.transform(lists)
    keys = space.vocabulary("film").keys_of(batch["film"].to_padded().flatten())
    assert keys.to_list() == lists["film"].explode().to_list()
    assert torch.equal(batch["stars"], torch.tensor(lists["stars"].to_list(), dtype=torch.float32))
    assert batch["q"].shape == (4,)
