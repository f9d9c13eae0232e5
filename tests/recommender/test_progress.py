"""Long steps of building and loading say on a terminal what they are, and `progress=False` silences all within them."""

import io

import polars as pl
import pytest
from rich.console import Console

import retrank as rr
from retrank.core import working

PLAYS = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
SONGS = pl.DataFrame({"song": list("xyz")})


@pytest.fixture
def said(monkeypatch):
    """What a terminal gets if nothing is too short to be shown."""
    written, titles = io.StringIO(), []
    monkeypatch.setattr(working, "Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    monkeypatch.setattr(working, "show", lambda bar: titles.append(bar.tasks[0].description) or True)
    monkeypatch.setattr(working, "hide", lambda bar: None)

    class Now:
        """A timer that does not wait."""

        daemon = False

        def __init__(self, seconds, function):
            self.start, self.cancel = function, lambda: None

    monkeypatch.setattr(working.threading, "Timer", Now)
    return titles


def fitted(**arguments):
    return rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(
        PLAYS, **arguments
    )


def build(space, **arguments):
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    return rr.Recommender(retrieval=model, space=space, catalogue=SONGS, history=PLAYS, **arguments)


def test_each_step_says_what_it_does(said, tmp_path):
    space = fitted()
    assert said == ["fitting the features"]
    said.clear()
    recommender = build(space)
    assert said[0] == "building a recommender"
    assert {"transforming a table", "embedding and indexing 3 candidates"} <= set(said)
    said.clear()
    recommender.save(tmp_path / "bundle")
    assert said[0] == f"saving {tmp_path / 'bundle'}"
    said.clear()
    rr.Recommender.load(tmp_path / "bundle")
    assert said[0] == f"loading {tmp_path / 'bundle'}"
    said.clear()
    space.transform(PLAYS)
    assert said == ["transforming a table"]


def test_whoever_wants_silence_gets_it(said, tmp_path):
    recommender = build(fitted(progress=False), progress=False)
    assert said == []
    recommender.save(tmp_path / "bundle")
    said.clear()
    rr.Recommender.load(tmp_path / "bundle", progress=False)
    assert said == []
    recommender.recommend("a")
    assert said == []


def test_files_are_told_by_their_rows(said, monkeypatch, tmp_path):
    changes = []
    monkeypatch.setattr(working.Working, "describe", lambda self, title: changes.append(title))
    PLAYS.write_parquet(tmp_path / "plays.parquet")
    rr.FeatureSpace({"user": rr.features.Categorical()}).fit(tmp_path / "plays.parquet")
    assert changes == ["learning from a table: 6 rows are read"]
