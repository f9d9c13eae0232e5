"""`retrank recommend --users ... --out ...`."""

import json

import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr
from retrank.cli import bulk


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    plays = pl.DataFrame({"user": [1, 1, 2, 2, 3, 3], "song": list("xyxzyz")})
    songs = pl.DataFrame({"song": list("xyz"), "year": [1990, 2000, 2010]})
    baseline = rr.baselines.ItemKNN().fit(plays, query="user", candidate="song")
    folder = tmp_path_factory.mktemp("served") / "bundle"
    rr.Recommender(baseline, catalogue=songs, history=plays).save(folder)
    return folder


def test_all_users_get_the_lists_that_they_get_alone(bundle, tmp_path):
    out = tmp_path / "lists.parquet"
    result = retrank("recommend", bundle, "--users", "all", "--out", out, "-k", 2, "--where", "year >= 2000")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 queries in ")
    assert f" a second): {out}, 0.00 MB" in result.stdout
    served = rr.Recommender.load(bundle)
    assert pl.read_parquet(out).equals(served.recommend_many([1, 2, 3], 2, where="year >= 2000"))


def test_users_of_a_file_as_json(bundle, tmp_path):
    out, users = tmp_path / "lists.csv", tmp_path / "users.csv"
    users.write_text("user\n3\n9\n")
    result = retrank("recommend", bundle, "--users", users, "--out", out, "--include-seen", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["out"], told["queries"], told["resumed"], told["bytes"]) == (str(out), 2, 0, out.stat().st_size)
    expected = rr.Recommender.load(bundle).recommend_many([3, 9], exclude_seen=False)
    assert pl.read_csv(out).cast({"score": pl.Float32}).equals(expected)


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (["--users", "all"], "one without the other"),
        (["--out", "a.csv"], "one without the other"),
        (["--users", "all", "--out", "a.csv", "--user", "1"], "--user or --query beside them"),
        (["--users", "all", "--out", "a.csv", "--query", "user=1"], "--user or --query beside them"),
        (["--users", "all", "--out", "a.txt"], "'a.txt'"),
        (["--users", "none.csv", "--out", "a.csv"], "no such file"),
        (["--users", "all", "--out", "a.csv", "--where", "year >"], "--where"),
    ],
)
def test_what_does_not_go_together_is_refused(bundle, tmp_path, monkeypatch, options, got):
    monkeypatch.chdir(tmp_path)
    result = retrank("recommend", bundle, *options)
    assert result.returncode == 2
    assert got in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_command_says_how_it_goes_on(bundle, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "recommend_to_file", stopped)
    result = retrank("recommend", bundle, "--users", "all", "--out", tmp_path / "a.csv")
    assert result.returncode == 130
    assert "run the same command again" in result.stderr
