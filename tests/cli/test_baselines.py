"""A baseline in production: train, evaluate and recommend with the commands that models have."""

import json

import numpy as np
import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr
from retrank.cli.comparison import NAMES, baseline_of, better_baseline, settings_of
from retrank.cli.config import BaselinesConfig, RunConfig, load_config
from retrank.cli.pipeline import Pipeline

CONFIG = """
title = "Songs"
[data]
interactions = "plays.csv"
candidates = "songs.parquet"
query = "person"
candidate = "song"
time = "time"
[features.person]
kind = "Categorical"
[features.song]
kind = "Categorical"
[retrieval]
query = ["person"]
candidate = ["song"]
layers = [4]
dim = 4
epochs = 1
[baselines]
ease_l2 = 20.0
ease_decay = 0.5
knn_neighbors = 7
knn_shrink = 2.0
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    draw = np.random.default_rng(0)
    genre = draw.integers(3, size=30)
    rows = [
        (f"{person:02}", f"s{song}", f"2024-01-{1 + place // 2:02}")  # two a day: some times are equal
        for person in range(40)
        for place, song in enumerate(np.argsort(-2.0 * (genre == person % 3) + draw.gumbel(size=30))[:10])
    ]
    plays = pl.DataFrame(rows, schema=["person", "song", "time"], orient="row")
    plays.sample(fraction=1.0, shuffle=True, seed=1).write_csv(folder / "plays.csv")
    songs = pl.DataFrame({"song": [f"s{song}" for song in range(30)], "genre": genre})
    songs.write_parquet(folder / "songs.parquet")
    (folder / "songs.toml").write_text(CONFIG)
    tables = Pipeline(load_config(folder / "songs.toml")).load()
    tables.test.select("person", "song").write_csv(folder / "test.csv")
    return folder


@pytest.fixture(scope="module")
def trained(world):
    found = {}
    for serve in ("models", "ease-recent"):
        result = retrank("train", world / "songs.toml", "--serve", serve.upper(), "--out", world / serve, "--json")
        assert result.returncode == 0, result.stderr
        found[serve] = json.loads(result.stdout)
    return found


def means(report):
    return {(row["system"], row["metric"]): row["mean"] for row in report["rows"]}


def test_a_bundle_of_a_baseline_is_used_like_any(trained, world):
    assert trained["ease-recent"]["seeds"] == 1
    recommender = rr.Recommender.load(world / "ease-recent")
    assert isinstance(recommender.baseline, rr.baselines.EASE)
    assert recommender.card.models == "EASE, recent first: EASE(l2=20.0, decay=0.5)."
    key = trained["ease-recent"]["query"]
    result = retrank("recommend", world / "ease-recent", "--user", key, "--where", "genre = 1", "--json")
    rows = json.loads(result.stdout)["recommendations"]
    assert rows == recommender.recommend(key, where="genre = 1").to_dicts()
    assert {row["genre"] for row in rows} == {1}
    result = retrank("recommend", world / "ease-recent", "--user", "03", "--user", "nobody", "-k", 2)
    assert (result.returncode, "for person nobody" in result.stdout) == (0, True)
    assert len(json.loads(retrank("similar", world / "ease-recent", "s3", "--json").stdout)["similar"]) == 10
    refused = retrank("recommend", world / "ease-recent", "--query", "age=3")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --query: expected columns of ['person']")


def test_a_bundle_of_a_baseline_is_updated(trained, world):
    pl.DataFrame({"song": ["s77"], "genre": [9]}).write_csv(world / "new_songs.csv")
    news = pl.DataFrame({"person": ["03", "03", "new"], "song": ["s77", "s1", "s77"], "time": ["2025-01-01"] * 3})
    news.write_csv(world / "news.csv")
    arguments = ("--interactions", world / "news.csv", "--candidates", world / "new_songs.csv", "--out", world / "next")
    result = retrank("update", world / "ease-recent", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    done = json.loads(result.stdout)
    assert (done["events"], done["new queries"], done["new candidates"]) == (3, 1, 1)
    updated = rr.Recommender.load(world / "next")
    assert updated.recommend("03", k=50).filter(pl.col("song").is_in(["s77", "s1"])).is_empty()
    assert set(updated.recommend("new")["stage"]) == {"retrieval"}
    assert "s77" not in updated.recommend("new", k=50)["song"].to_list()
    assert updated.similar("s77", k=3)["genre"].to_list() != []


def test_train_and_evaluate_compare_with_the_same(trained, world):
    reports = {}
    for serve, ours in (("models", "two-tower"), ("ease-recent", "EASE, recent first")):
        arguments = ("evaluate", world / serve, "--test", world / "test.csv", "-k", 10, "-k", 20, "--json")
        evaluated = json.loads(retrank(*arguments).stdout)
        in_training, reports[serve] = means(trained[serve]["report"]), means(evaluated)
        assert evaluated["reference"] == trained[serve]["report"]["reference"] == "EASE"
        assert {system for system, _ in reports[serve]} == {*NAMES.values(), "bundle"}
        for (system, metric), mean in in_training.items():
            same = ("bundle" if system == ours else system, metric)
            assert reports[serve][same] == pytest.approx(mean, rel=1e-12, abs=0), (system, metric)
    assert {system for system, _ in means(trained["ease-recent"]["report"])} == set(NAMES.values())  # no model trained
    for name in NAMES.values():
        assert reports["models"][name, "ndcg@10"] == reports["ease-recent"][name, "ndcg@10"]


def test_a_baseline_that_is_better_is_pointed_out(trained):
    rows = trained["models"]["report"]["rows"]
    values = {row["system"]: row["mean"] for row in rows if row["metric"] == "ndcg@10"}
    frame = pl.DataFrame({"system": list(values), "metric": "ndcg@10", "mean": list(values.values())})
    for best, kind in (("EASE, recent first", "ease-recent"), ("item-kNN", "item-knn")):
        better = frame.with_columns(mean=pl.when(pl.col("system") == best).then(0.9).otherwise(0.1))
        advice = better_baseline(rr.evaluation.Report(better, reference="EASE", num_queries=1))
        assert advice.startswith(f"{best} does better than two-tower here (ndcg@10 0.9000 and 0.1000)")
        assert f"--serve {kind} " in advice
    worse = frame.with_columns(mean=pl.when(pl.col("system") == "two-tower").then(0.9).otherwise(0.1))
    assert better_baseline(rr.evaluation.Report(worse, reference="EASE", num_queries=1)) is None


def test_settings_come_from_the_bundle_or_are_the_defaults(trained, world):
    card = rr.Recommender.load(world / "models").card
    assert settings_of(card) == load_config(world / "songs.toml").baselines
    assert settings_of(rr.recommender.Card("From Python")) == BaselinesConfig()
    with pytest.raises(rr.errors.StorageError, match="facts.baselines, ease_l2"):
        settings_of(rr.recommender.Card("Damaged", facts={"baselines": {"ease_l2": "many"}}))
    knn = baseline_of("item-knn", settings_of(card))
    assert knn.config == {"num_neighbors": 7, "shrink": 2.0}


def test_what_needs_times_or_too_much_memory_is_left_out(monkeypatch, world):
    tables = Pipeline(load_config(world / "songs.toml")).load()
    systems = {"popular": rr.baselines.Popularity()}
    names = {"query": "person", "candidate": "song", "ks": [5], "seed": 0, "progress": False}
    said = []
    names["say"] = said.append
    compare = rr.cli.comparison.compare
    report = compare(systems, tables.train, tables.test, BaselinesConfig(), time=None, **names)
    assert report.systems == ["popularity", "item-kNN", "EASE", "popular"]
    assert said == ["EASE, recent first is left out of the comparison: the history has no times"]
    monkeypatch.setattr(rr.baselines.EASE, "memory_needed", lambda self, num_candidates: 10**12)
    report = compare(systems, tables.train, tables.test, BaselinesConfig(), time="time", **names)
    assert (report.systems, report.reference) == (["popularity", "item-kNN", "popular"], "item-kNN")
    assert said[1] == "EASE is left out of the comparison: 30 candidates need 1e+03 GB, and it may take 8 GB"


def test_what_to_serve_is_named_in_the_file_or_on_the_command_line(world, tmp_path):
    result = retrank("train", world / "songs.toml", "--serve", "knn")
    assert result.returncode == 2
    assert "--serve: expected one of models, popularity, item-knn, ease, ease-recent, got knn" in result.stderr
    served = set(RunConfig.model_fields["serve"].annotation.__args__)
    assert served == {"models", *NAMES}
    (world / "knn.toml").write_text('serve = "item-knn"\n' + CONFIG)
    pipeline = Pipeline(load_config(world / "knn.toml"))
    tables = pipeline.load()
    recommender = pipeline.train(tables, seed=3)
    assert recommender.baseline.config == {"num_neighbors": 7, "shrink": 2.0}
    report = pipeline.evaluate(tables, [recommender], seed=0)
    assert report.systems == list(NAMES.values())
    (world / "knn.toml").write_text('serve = "item-kNN"\n' + CONFIG)
    with pytest.raises(rr.errors.ConfigError, match="serve"):
        load_config(world / "knn.toml")
