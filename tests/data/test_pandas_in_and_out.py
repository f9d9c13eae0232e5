"""Every public function that takes a table and returns one gives pandas where pandas was given, polars for all else."""

import importlib
import inspect
import pkgutil
import typing

import polars as pl
import pytest
import torch

import retrank as rr
from retrank.data.sources import ArrowCapsule, like

pandas = pytest.importorskip("pandas", reason="pandas is not installed")

VIEWS = pl.DataFrame(
    {
        "user": ["a", "b", "a", "c", "b", "c", "a"],
        "film": ["x", "y", "z", "x", "z", "y", "y"],
        "time": [1, 2, 3, 4, 5, 6, 7],
        "stars": [5.0, 3.5, None, 4.0, 1.0, 2.0, 3.0],
        "is_new": [True, False, True, True, False, False, True],
    }
)
ROLES = {"query": "user", "candidate": "film", "time": "time"}


def recommender():
    kinds = {"user": rr.features.Categorical(), "film": rr.features.Categorical()}
    schema = (space := rr.FeatureSpace(kinds).fit(VIEWS)).schema
    torch.manual_seed(0)
    model = rr.models.MatrixFactorization(schema["user"], schema["film"], rr.tasks.Retrieval(), dim=4)
    films = VIEWS.select("film").unique(maintain_order=True)
    return rr.Recommender(retrieval=model, space=space, catalogue=films, history=VIEWS)


CALLS = {
    "random_split": lambda table: rr.data.random_split(table, test_size=2, seed=0),
    "time_split": lambda table: rr.data.time_split(table, time="time", test_size=2),
    "leave_last_split": lambda table: rr.data.leave_last_split(table, query="user", time="time"),
    "leave_random_split": lambda table: rr.data.leave_random_split(table, query="user", test_size=1, seed=0),
    "with_recent_candidates": lambda table: rr.data.with_recent_candidates(table, **ROLES, length=2),
    "with_seen_candidates": lambda table: rr.data.with_seen_candidates(table, query="user", candidate="film", length=2),
    "latest_candidates": lambda table: rr.data.latest_candidates(table, **ROLES, length=2),
    "sample_lists": lambda table: rr.data.sample_lists(table, query="user", size=2, per_query=1, seed=0),
    "Recommender.recommend_many": lambda table: recommender().recommend_many(table, exclude_seen=False),
    "Baseline.recommend_many": lambda table: (
        rr.baselines.Popularity().fit(VIEWS).recommend_many(table, exclude_seen=False)
    ),
}
EXEMPT = {"frame"}  # it is asked for a polars table


def flat(hint):
    """A type hint and all that it is made of."""
    yield hint
    for part in typing.get_args(hint):
        yield from flat(part)


def takes_and_returns_tables(function):
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        return False
    given = [part for name, hint in hints.items() if name != "return" for part in flat(hint)]
    return ArrowCapsule in given and pl.DataFrame in flat(hints.get("return"))


def public_functions():
    """All functions that a user can call, methods of public classes among them."""
    packages = [info.name for info in pkgutil.walk_packages(rr.__path__, "retrank.") if info.ispkg]
    for package in map(importlib.import_module, ["retrank", *packages]):
        for value in (getattr(package, name) for name in getattr(package, "__all__", ())):
            if inspect.isclass(value):
                yield from (method for _, method in inspect.getmembers(value, inspect.isroutine))
            elif inspect.isfunction(value):
                yield value


def test_no_public_function_is_left_out():
    found = {function.__qualname__ for function in public_functions() if takes_and_returns_tables(function)}
    assert found == CALLS.keys() | EXEMPT


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", CALLS)
def test_pandas_comes_out_where_pandas_went_in(name):
    expected = as_list(CALLS[name](VIEWS))
    indexed = VIEWS.to_pandas().set_index(pandas.Index(range(10, 17)))
    found = as_list(CALLS[name](indexed))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, pandas.DataFrame)
        assert list(one.index) == list(range(len(other)))
        pandas.testing.assert_frame_equal(one, other.to_pandas())


@pytest.mark.parametrize("name", CALLS)
def test_everything_else_gives_polars(name, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    VIEWS.write_parquet(tmp_path / "views.parquet")
    expected = as_list(CALLS[name](VIEWS))
    for table in (pyarrow.table(VIEWS), VIEWS.lazy(), tmp_path / "views.parquet", rr.data.source(VIEWS)):
        for one, other in zip(as_list(CALLS[name](table)), expected, strict=True):
            assert isinstance(one, pl.DataFrame)
            assert one.equals(other)


def test_splits_keep_rows_of_pandas_as_they_are():
    table = pandas.DataFrame(
        {
            "user": ["a", "b", "a"],
            "when": pandas.to_datetime(["2024-01-03", "2024-01-01", "2024-01-02"]),
            "tags": [["x"], [], ["y", "z"]],
            "kind": pandas.Categorical(["p", "q", "p"]),
            "part": [0.5, float("nan"), 1.5],
        }
    )
    train, test = rr.data.leave_last_split(table, query="user", time="when")
    for part, rows in ((train, [1, 2]), (test, [0])):
        whole = table.iloc[rows].reset_index(drop=True)
        assert [list(tags) for tags in part.pop("tags")] == list(whole.pop("tags"))
        pandas.testing.assert_frame_equal(part, whole, check_categorical=False)


def test_a_series_of_keys_is_a_column_of_keys():
    made = recommender()
    found = made.recommend_many(pandas.Series(["a", "new"], index=[7, 8]), exclude_seen=False)
    assert isinstance(found, pandas.DataFrame)
    assert pl.from_pandas(found).equals(made.recommend_many(["a", "new"], exclude_seen=False))


def test_a_frame_of_a_subclass_is_of_pandas():
    kind = type("Views", (pandas.DataFrame,), {})
    assert isinstance(like(kind({"a": [1]}), VIEWS), pandas.DataFrame)
    assert like(None, VIEWS) is VIEWS
    assert like(pl.Series([1]), VIEWS) is VIEWS
