"""The runner gives what the recommender gives, and refuses what it refuses."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from tests.export import world
from tests.export.lists import same_list

import retrank as rr


@pytest.fixture(scope="module", params=[None, "reranker", "dlrm"])
def recommender(request):
    return world.serve(request.param)


def test_lists_are_those_of_the_recommender(recommender, eager_runner):
    runner, rng = eager_runner(recommender), np.random.default_rng(1)
    stages = set()
    for query in [{"user": "nobody"}, *(world.draw_query(rng) for _ in range(50))]:
        wanted = recommender.recommend(query, k=7)
        assert same_list(wanted, runner.recommend(query, k=7)), query
        stages |= set(wanted["stage"])
    assert "popularity" in stages
    assert len(stages) == 2


def test_rules_are_those_of_the_recommender(recommender, eager_runner):
    runner, rng = eager_runner(recommender), np.random.default_rng(2)
    for place in range(24):
        query = world.draw_query(rng)
        some = None if place % 3 else rng.choice(world.KEYS, rng.integers(1, 40), replace=False).tolist()
        rules = {
            "k": int(rng.choice([1, 5, 20, 33, 500])),
            "exclude_seen": bool(rng.random() < 0.5),
            "allow": some,
            "deny": rng.choice([*world.KEYS, "unheard"], 6, replace=False).tolist(),
        }
        assert same_list(recommender.recommend(query, **rules), runner.recommend(query, **rules)), (query, rules)


def test_events_and_candidates_that_came_later_count(eager_runner):
    recommender = world.serve("reranker")
    events = {"user": ["u1", "u1", "someone"], "song": ["s5", "s6", "s5"], "time": [100, 101, 100]}
    recommender = recommender.with_events(pl.DataFrame(events)).without_candidates(["s0", "s1"])
    added = recommender.candidates.head(1).with_columns(song=pl.lit("new"))
    recommender = recommender.with_candidates(added)
    runner = eager_runner(recommender)
    for user in ("u0", "u1", "someone", "nobody"):
        wanted = recommender.recommend(user, k=90)
        assert same_list(wanted, runner.recommend(user, k=90))
    assert "s5" not in [item["key"] for item in runner.recommend("someone", k=90)]


@pytest.mark.parametrize("ranking", [None, "reranker"])
def test_candidates_that_are_not_available_are_in_no_list(ranking, eager_runner):
    gone = world.KEYS[::2]
    recommender = world.serve(ranking).with_unavailable(gone)
    runner, rng = eager_runner(recommender), np.random.default_rng(5)
    for rules in ({}, {"allow": world.KEYS[:30]}, {"deny": world.KEYS[1:9]}, {"exclude_seen": False}):
        for query in ({"user": "nobody"}, world.draw_query(rng), world.draw_query(rng)):
            found = runner.recommend(query, k=60, **rules)
            assert same_list(recommender.recommend(query, k=60, **rules), found)
            assert not {item["key"] for item in found} & set(gone)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"user": 3},
        {"user": "u1", "size": 3},
        {"user": "u1", "age": "old"},
        {"user": "u1", "bio": 3},
        {"user": "u1", "likes": ["s1"]},
        {"user": "u1", "likes": ["s1"], "shares": [0.1, 0.2]},
        {"user": "u1", "likes": ["s1"], "shares": [-1.0]},
        {"user": "u1", "likes": ["s1", None], "shares": [1.0, 1.0]},
        {"user": "u1", "taste": [1.0, 2.0]},
        {"user": "u1", "taste": 1.0},
        {"user": "u1", "visits": -3},
        {"user": "u1", "income": 1e39},
        {"user": "u1", "income": float("inf")},
        {"user": "u1", "epoch": 10**18},
        {"user": "u1", "device": 1.5},
        {"user": "u1", "site": 3},
        {"user": "u1", "recent": "s1"},
        {"user": "u1", "recent": [1, 2]},
        {"user": "u1", "joined": 12},
        {"user": "u1", "member": "yes"},
    ],
    ids=str,
)
def test_what_the_recommender_refuses_the_runner_refuses(query, eager_runner):
    recommender = world.serve()
    with pytest.raises(rr.errors.DataError):
        recommender.recommend(query)
    with pytest.raises(ValueError):
        eager_runner(recommender).recommend(query)


def test_a_query_is_embedded_as_retrieval_does(eager_runner):
    recommender = world.serve()
    runner = eager_runner(recommender)
    wanted = recommender.recommend("u3", k=5)
    vectors = {
        key: vector for keys, made, _ in rr.export.vectors(recommender) for key, vector in zip(keys, made, strict=True)
    }
    scores = [float(vectors[key] @ runner.embed("u3")) for key in wanted["song"]]
    assert scores == pytest.approx(wanted["score"].to_list(), abs=1e-5)
    with pytest.raises(ValueError, match="something is known"):
        runner.embed("stranger")


def test_k_below_1_is_refused(eager_runner):
    with pytest.raises(ValueError, match="k >= 1"):
        eager_runner(world.serve()).recommend("u1", k=0)


class Length(rr.features.Feature):
    emits = "numbers"

    def __init__(self):
        super().__init__(None)

    def summarize(self, values):
        return rr.features.statistics.Agreement()

    def transform(self, values, name):
        return torch.from_numpy(values.str.len_chars().cast(pl.Float32).to_numpy(writable=True))

    def schema(self, name):
        return rr.core.ColumnSchema(name, "number")


def test_a_kind_that_the_runner_does_not_know_is_refused_by_name(eager_runner):
    plays = pl.DataFrame({"user": list("aabb"), "name": ["x", "x", "yy", "yy"], "song": list("pqqr")})
    names = {"user": rr.features.Categorical(), "name": Length(), "song": rr.features.Categorical()}
    space = rr.FeatureSpace(names).fit(plays)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "name"], layers=[4]), rr.models.Tower(space, ["song"], layers=[4]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    recommender = rr.Recommender(model, space=space, catalogue=plays.select("song").unique(), history=plays)
    with pytest.raises(rr.errors.ConfigError, match="'name', Length"):
        eager_runner(recommender)


def test_a_baseline_is_refused(tmp_path):
    history, songs = world.tables()
    baseline = rr.baselines.Popularity().fit(history, query="user", candidate="song")
    recommender = rr.Recommender(baseline, catalogue=songs, history=history)
    with pytest.raises(rr.errors.ConfigError):
        rr.export.write_export(recommender, tmp_path / "export")
    assert not (tmp_path / "export").exists()


ALONE = """
import json, sys
for name in ("retrank", "torch", "polars", "pandas"):
    sys.modules[name] = None  # an import of it fails
sys.path.insert(0, sys.argv[1])
from runner import Runner
runner = Runner(sys.argv[1])
print(json.dumps([runner.recommend(query, k=7) for query in json.load(sys.stdin)]))
"""


def alone(folder, queries):
    """Recommend in a process that cannot import retrank, torch or polars."""
    command = [sys.executable, "-I", "-c", ALONE, str(folder)]
    done = subprocess.run(command, input=json.dumps(queries), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_exported_runner_needs_nothing_of_retrank(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    history, songs = world.tables()
    names = {"user": rr.features.Categorical(), "song": rr.features.Categorical(), "recent": rr.features.Recent("song")}
    rows = rr.data.with_recent_candidates(history, query="user", candidate="song", time="time", length=8)
    space = rr.FeatureSpace(names).fit(rows)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "recent"], layers=[8], dim=4),
        rr.models.Tower(space, ["song"], layers=[8], dim=4),
        rr.tasks.Retrieval(),
    )
    recommender = rr.Recommender(model, space=space, catalogue=songs, history=history, time="time")
    rr.export.write_export(recommender, tmp_path / "export")
    queries = [{"user": user} for user in [*world.KNOWN, "nobody"]]
    queries += [{"user": "new", "recent": world.KEYS[:length]} for length in (0, 1, 7)]
    for query, found in zip(queries, alone(tmp_path / "export", queries), strict=True):
        assert same_list(recommender.recommend(query, k=7), found)


@pytest.mark.slow
@pytest.mark.parametrize("ranking", ["reranker", "dlrm"])
def test_every_kind_of_feature_through_onnx(ranking, tmp_path):
    recommender, rng = world.serve(ranking), np.random.default_rng(3)
    rr.export.write_export(recommender, tmp_path / "export")
    runner = rr.export.Runner(tmp_path / "export")
    for _ in range(300):
        query = world.draw_query(rng)
        assert same_list(recommender.recommend(query, k=7), runner.recommend(query, k=7)), query
