"""`retrank update`."""

import json

import numpy as np
import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr

NAMES = {"query": "user", "candidate": "song", "time": "time"}


def plays(users, songs, rows, start):
    rng = np.random.default_rng(start)
    user, song = rng.integers(0, users, rows), rng.integers(0, songs, rows)
    keys = pl.DataFrame({"user": [f"{u:03}" for u in user], "song": [f"{s:03}" for s in song]})
    return keys.with_columns(time=start + pl.int_range(rows))


def songs(first, last):
    return pl.DataFrame({"song": [f"{song:03}" for song in range(first, last)], "year": range(first, last)})


def people(first, last):
    return pl.DataFrame({"user": [f"{user:03}" for user in range(first, last)], "age": range(first, last)})


OLD, NEW = plays(20, 30, 400, 0), plays(25, 35, 200, 1000)


@pytest.fixture
def bundle(tmp_path):
    past = rr.data.with_recent_candidates(OLD, length=4, **NAMES).join(people(0, 20), on="user")
    F = rr.features
    space = rr.FeatureSpace(
        {"user": F.Categorical(), "age": F.Discretized(bins=3), "song": F.Categorical(), "recent": F.Recent("song")}
    ).fit(past)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age", "recent"], layers=[8]), rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(log_q=True),
    )  # fmt: skip
    recommender = rr.Recommender(
        retrieval=model, space=space, catalogue=songs(0, 30), history=OLD, queries=people(0, 20)
    )
    recommender.save(tmp_path / "bundle")
    NEW.write_csv(tmp_path / "new.csv")
    songs(30, 35).write_csv(tmp_path / "songs.csv")
    people(15, 25).write_parquet(tmp_path / "people.parquet")
    return tmp_path / "bundle"


def asked(bundle, *others):
    folder = bundle.parent
    tables = ("--candidates", folder / "songs.csv", "--queries", folder / "people.parquet")
    return retrank("update", bundle, "--interactions", folder / "new.csv", *tables, *others)


def test_it_does_what_python_does(bundle, tmp_path):
    before = rr.Recommender.load(bundle)
    result = asked(bundle, "--out", tmp_path / "next", "--epochs", 3, "--replay", 1, "--seed", 5, "--json")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    there = rr.Recommender.load(tmp_path / "next")
    here = rr.update(before, NEW, songs(30, 35), people(15, 25), epochs=3, replay=1, seed=5)
    everybody = people(0, 25).select("user")
    assert there.recommend_many(everybody).equals(here.recommend_many(everybody))
    assert there.card == here.card
    assert {name: said[name] for name in ("events", "new queries", "new candidates", "epochs", "seed")} == {
        "events": 200, "new queries": 5, "new candidates": 5, "epochs": 3, "seed": 5,
    }  # fmt: skip
    assert rr.Recommender.load(bundle).space.schema == before.space.schema


def test_without_out_the_bundle_is_replaced(bundle):
    result = asked(bundle)
    assert result.returncode == 0, result.stderr
    assert "200 interactions learned, 5 queries and 5 candidates new" in result.stdout
    assert len(rr.Recommender.load(bundle).catalogue) == 35


def test_what_is_missing_is_named(bundle, tmp_path):
    result = retrank("update", bundle, "--interactions", tmp_path / "new.csv")
    assert result.returncode == 2
    assert "column 'user', row" in result.stderr
    assert "--queries" in result.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("mine")
    result = asked(bundle, "--out", tmp_path / "other")
    assert result.returncode == 2
    assert (tmp_path / "other" / "precious").read_text() == "mine"
    assert retrank("update", tmp_path / "nothing", "--interactions", tmp_path / "new.csv").returncode == 2
