import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr
from retrank.cli.commands import run
from retrank.cli.config import load_config, quickstart_config
from retrank.core.errors import ConfigError
from retrank.index import choice
from retrank.recommender import index_choice

CONFIG = """
title = "Songs"
[data]
interactions = "plays.parquet"
candidates = "songs.csv"
queries = "people.parquet"
query = "person"
candidate = "song"
time = "time"
history = 5
[features.person]
kind = "Categorical"
[features.age]
kind = "Bucketized"
boundaries = [20, 40, 60]
[features.song]
kind = "Categorical"
[features.genre]
kind = "Categorical"
[features.recent]
kind = "Recent"
of = "song"
[retrieval]
query = ["person", "age"]
query_residual = "recent"
candidate = ["song", "genre"]
candidate_residual = "song"
layers = [8]
dim = 8
epochs = 2
batch_size = 64
[ranking]
features = ["age", "genre"]
history = "recent"
retrieved = 20
batch_size = 16
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    genre, age = rng.integers(3, size=60), rng.integers(10, 70, size=80)
    appeal = 2.0 * (age[:, None] // 25 == genre) + rng.gumbel(size=(80, 60))
    plays = [(p, s) for p in range(80) for s in rng.permutation(np.argsort(-appeal[p])[:20])]
    pl.DataFrame(
        {"person": [p for p, _ in plays], "song": [f"s{s}" for _, s in plays], "time": range(len(plays))}
    ).write_parquet(folder / "plays.parquet")
    pl.DataFrame({"song": [f"s{s}" for s in range(60)], "genre": [f"g{g}" for g in genre]}).write_csv(
        folder / "songs.csv"
    )
    pl.DataFrame({"person": range(80), "age": age}).write_parquet(folder / "people.parquet")
    (folder / "songs.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def trained(world):
    result = retrank("train", world / "songs.toml", "--out", world / "bundle", "--seeds", 2, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_an_index_that_was_chosen_by_size_is_told_and_on_the_card(world, tmp_path, monkeypatch, capsys):
    pytest.importorskip("faiss")
    monkeypatch.setattr(index_choice, "LEAST_LISTED", 10)
    monkeypatch.setattr(choice, "_RECALL", 0.0)
    config = load_config(world / "songs.toml").model_copy(update={"ranking": None})
    run(config, seeds=1, out=tmp_path / "bundle", show=None, as_json=False)
    assert "Candidates are searched in 1 list of IVF8,SQ8: recall@10" in " ".join(capsys.readouterr().out.split())
    served = rr.Recommender.load(tmp_path / "bundle")
    assert isinstance(served.index, rr.index.Faiss)
    assert served.card.facts["index"]["factory"] == "IVF8,SQ8"
    assert served.card.facts["seed"] == config.seed


def test_train_writes_a_bundle_and_says_how_good_it_is(trained, world):
    systems = {row["system"] for row in trained["report"]["rows"]}
    assert systems == {"popularity", "item-kNN", "EASE", "EASE, recent first", "two-tower", "two-stage"}
    assert len(trained["recommendations"]) == 10
    recommender = rr.Recommender.load(world / "bundle")
    assert "ndcg@10" in recommender.card.to_markdown()
    assert recommender.card.data.startswith("plays.parquet: ")
    for file in ("card.json", "README.md"):
        assert str(world) not in (world / "bundle" / file).read_text()  # no path of the machine
    assert [path.name for path in world.iterdir() if "checkpoint" in path.name] == []


def test_recommend_says_what_the_bundle_says(trained, world):
    result = retrank("recommend", world / "bundle", "--user", trained["query"], "-k", 10, "--json")
    assert json.loads(result.stdout)["recommendations"] == trained["recommendations"]
    recommender = rr.Recommender.load(world / "bundle")
    here = recommender.recommend({"person": trained["query"]}, k=10).to_dicts()
    assert here == trained["recommendations"]


def test_every_user_that_is_named_is_answered(trained, world):
    arguments = ("recommend", world / "bundle", "-k", 3)
    alone = [retrank(*arguments, "--user", user, "--json").stdout for user in (42, 43)]
    both = retrank(*arguments, "--user", 42, "--user", 43, "--json").stdout
    assert both == "".join(alone)
    assert [json.loads(line)["query"] for line in both.splitlines()] == [{"person": 42}, {"person": 43}]
    shown = retrank(*arguments, "--user", 42, "--user", 43).stdout
    assert "for person 42" in shown
    assert "for person 43" in shown
    assert "nothing is known" not in shown


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular_and_is_told_so(trained, world):
    shown = retrank("recommend", world / "bundle", "-k", 3, "--user", 1_000_000).stdout
    assert "of whom nothing is known" in " ".join(shown.split())


def test_recommend_to_a_newcomer_with_a_condition(trained, world):
    result = retrank(
        "recommend", world / "bundle", "--query", "person=999", "--query", "age=30", "--query", "recent=s1,s2",
        "--where", "genre = 'g1'", "--json",
    )  # fmt: skip
    rows = json.loads(result.stdout)["recommendations"]
    assert {row["genre"] for row in rows} == {"g1"}
    assert {row["stage"] for row in rows} == {"ranking"}
    shown = retrank("recommend", world / "bundle", "--user", 3, "-k", 2)
    assert shown.returncode == 0
    assert "genre" in shown.stdout


def test_evaluate_compares_with_baselines(trained, world):
    table = pl.read_parquet(world / "plays.parquet")
    _, test = rr.data.leave_last_split(table, query="person", time="time", test_size=0.2)
    test.write_csv(world / "test.csv")
    result = retrank("evaluate", world / "bundle", "--test", world / "test.csv", "-k", 10, "--json")
    rows = {(r["system"], r["metric"]): r["mean"] for r in json.loads(result.stdout)["rows"]}
    trained_rows = {(r["system"], r["metric"]): r["mean"] for r in trained["report"]["rows"]}
    assert rows["popularity", "ndcg@10"] == pytest.approx(trained_rows["popularity", "ndcg@10"])
    assert "bundle" in retrank("evaluate", world / "bundle", "--test", world / "test.csv").stdout


def test_every_flag_has_help():
    commands = ("quickstart", "train", "update", "config", "evaluate", "recommend", "similar", "clean", "doctor")
    for command in commands:
        shown = retrank(command, "--help").stdout
        for line in shown.splitlines():
            if line.lstrip("│ *").startswith("--"):
                assert len(line.strip("│ ").split("  ")) > 1, line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "nowhere", "--user", "1"], "nowhere: expected the directory of a bundle, got nothing there"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["quickstart", "--data", "nowhere"], "--data"),
        (["recommend", "{bundle}", "--query", "person"], "COLUMN=VALUE"),
        (["recommend", "{bundle}", "--user", "x"], "'person'"),
        (["recommend", "{bundle}", "--query", "height=3"], "height"),
        (["recommend", "{bundle}", "--user", "1", "--where", "genre ="], "--where"),
        (["recommend", "{bundle}", "--user", "1", "--where", "genres = 'a'"], "genres"),
        (["recommend", "{bundle}"], "expected either --user or --query person=..., got neither; write e.g. --user"),
        (["recommend", "{bundle}", "--user", "1", "--query", "person=1"], "got both"),
        (["recommend", "{bundle}", "--query", "age=30"], "got neither"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(trained, world, arguments, message):
    result = retrank(*(a.format(bundle=world / "bundle") for a in arguments))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_flags_are_usage_errors():
    assert retrank("recommend", "--nonsense").returncode == 2
    assert retrank("quickstart", "--seeds", "0").returncode == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epochs = 0", r"retrieval\.epochs"),
        ("dim = 8", "dimm = 8", r"retrieval\.dimm .*did you mean 'dim'"),
        ("dim = 8", 'dropout = "0.2"', r"retrieval\.dropout .*a valid number, got '0.2'"),
        ("dim = 8", "dim = 8.5", r"retrieval\.dim .*got 8.5"),
        ("dim = 8", "dim = true", r"retrieval\.dim .*got True"),
        ("dim = 8", 'dim = "8"', r"retrieval\.dim .*got '8'"),
        ("layers = [8]", 'layers = ["8"]', r"retrieval\.layers\.0 .*got '8'"),
        ('time = "time"', "time = 3", r"data\.time .*got 3"),
        ('title = "Songs"', "title = 3", r"title .*got 3"),
        ("boundaries = [20, 40, 60]", 'boundaries = "20"', r"features\.age"),
        ('kind = "Recent"', 'kind = "Recent"\ndecay = "0.1"', r"features\.recent.*decay"),
        ('kind = "Recent"', 'kind = "Recent"\nlength = "5"', r"features\.recent.*length"),
        ('query = "person"', "", r"data\.query"),
        ('kind = "Recent"', 'kind = "Recently"', r"features\.recent\.kind"),
        ("boundaries = [20, 40, 60]", "edges = [1]", r"features\.age"),
        ('interactions = "plays.parquet"', "", "interactions"),
        ("[data]", "[data", "TOML"),
    ],
)
def test_bad_configurations_name_the_entry(world, tmp_path, old, new, message):
    file = tmp_path / "bad.toml"
    file.write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        rr.cli.pipeline.Pipeline(load_config(file))


def test_the_printed_configuration_is_that_of_the_quickstart(tmp_path):
    file = tmp_path / "quick.toml"
    file.write_text(retrank("config").stdout)
    assert load_config(file) == quickstart_config()


def test_a_stopped_run_goes_on_and_ends_the_same(trained, world, tmp_path):
    slow = CONFIG.replace("epochs = 2", "epochs = 10").replace('"plays', f'"{world}/plays')
    slow = slow.replace('"songs.csv', f'"{world}/songs.csv').replace('"people', f'"{world}/people')
    (tmp_path / "slow.toml").write_text(slow)
    arguments = ["train", tmp_path / "slow.toml", "--json", "--out"]
    command = [sys.executable, "-m", "retrank", *map(str, arguments), str(tmp_path / "stopped")]
    command.remove("--json")  # which would also silence what training has to say
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    checkpoints = Path(tmp_path / ".stopped-checkpoints")
    deadline = time.time() + 60
    while not list(checkpoints.glob("*/*/manifest.json")) and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.count("go on") == 1
    assert "fit" not in errors
    resumed = retrank(*arguments, tmp_path / "stopped")
    whole = retrank(*arguments, tmp_path / "whole")
    assert resumed.returncode == 0, resumed.stderr
    first, second = (json.loads(result.stdout) for result in (resumed, whole))
    assert first["recommendations"] == second["recommendations"]
    assert first["report"] == second["report"]
