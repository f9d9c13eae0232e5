"""What can be known to be wrong before training is said before training."""

import json
import math

import numpy as np
import polars as pl
import pytest
from tests.command_line import retrank

from retrank.cli.config import load_config
from retrank.cli.pipeline import Pipeline
from retrank.core.errors import ConfigError, DataError
from retrank.models import TwoTower
from retrank.recommender import Recommender

CONFIG = """
[data]
interactions = "plays.parquet"
candidates = "songs.parquet"
query = "person"
candidate = "song"
time = "time"
[features.person]
kind = "Categorical"
[features.age]
kind = "Bucketized"
boundaries = [30, 50]
[features.song]
kind = "Categorical"
[retrieval]
query = ["person", "age"]
candidate = ["song"]
layers = [4]
dim = 4
epochs = 1
batch_size = 64
"""
RECENT = """
[features.recent]
kind = "Recent"
of = "song"
"""


def plays(num_people=12, num_plays=6):
    """Everyone's age goes up by one with every play."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(num_people), num_plays)
    songs = np.concatenate([rng.permutation(20)[:num_plays] for _ in range(num_people)])
    return pl.DataFrame(
        {
            "person": [f"{p:03}" for p in people],
            "song": [f"{s:02}" for s in songs],
            "time": np.tile(np.arange(num_plays), num_people),
            "age": people + 20 + np.tile(np.arange(num_plays), num_people),
            "rating": np.tile(["good", "bad"], len(people) // 2),
        }
    )


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # In the file the later plays come first: "last" means by time.
    plays().sort("time", descending=True).write_parquet("plays.parquet")
    songs = {"song": [f"{s:02}" for s in range(20)], "length": [math.nan, *range(19)]}
    released = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, 20), eager=True)
    pl.DataFrame(songs).with_columns(released=released).write_parquet("songs.parquet")
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def no_training(monkeypatch):
    def fit(*args, **kwargs):
        pytest.fail("training began")

    monkeypatch.setattr(TwoTower, "fit", fit)


def pipeline_of(world, config, **options):
    (world / "run.toml").write_text(config)
    return Pipeline(load_config(world / "run.toml"), **options)


def test_features_in_the_interactions_are_known_at_serving_as_they_were_last(world):
    result = retrank("train", "run.toml", "--out", "out", "--json")
    assert result.returncode == 0, result.stderr
    known = Recommender.load("out").queries.table
    expected = {f"{p:03}": p + 20 + 4 for p in range(12)}  # the play at time 5 is the test part
    assert dict(known.select("person", "age").rows()) == expected
    evaluated = Pipeline(load_config("run.toml")).load()
    assert evaluated.queries.columns == ["person", "age"]


def test_dates_and_nan_of_the_catalogue_become_json(world):
    shown = json.loads(retrank("train", "run.toml", "--out", "out", "--json").stdout, parse_constant=pytest.fail)
    assert shown["recommendations"][0]["released"].startswith("2020-01-")
    arguments = ("recommend", "out", "--user", "003", "-k", "20", "--json", "--include-seen")
    rows = json.loads(retrank(*arguments).stdout, parse_constant=pytest.fail)["recommendations"]
    assert [row["length"] for row in rows if row["song"] == "00"] == [None]


def test_the_bundle_replaces_nothing_that_is_no_bundle(world, no_training):
    (world / "photos").mkdir()
    (world / "photos" / "one.jpg").write_text("precious")
    (world / "letter").write_text("precious")
    for out in (".", "photos", "letter", "photos/.."):
        result = retrank("train", "run.toml", "--out", out)
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("error: ")
    assert (world / "photos" / "one.jpg").read_text() == (world / "letter").read_text() == "precious"


def test_only_the_checkpoints_of_the_run_itself_are_deleted(world):
    others = world / ".out-checkpoints" / "another run"
    others.mkdir(parents=True)
    assert retrank("train", "run.toml", "--out", "out", "--json").returncode == 0
    assert list((world / ".out-checkpoints").iterdir()) == [others]
    others.rmdir()
    assert retrank("train", "run.toml", "--out", "out", "--json").returncode == 0
    assert not (world / ".out-checkpoints").exists()


def test_checkpoints_belong_to_the_content_of_the_tables(world):
    def places():
        pipeline = pipeline_of(world, CONFIG, folder=world / "kept")
        tables = pipeline.load()
        pipeline.train(tables, seed=0)
        return {path.name for path in (world / "kept").iterdir()}

    first = places()
    assert places() == first
    plays().with_columns(pl.col("song").reverse()).write_parquet("plays.parquet")
    assert len(places() - first) == 1


@pytest.mark.parametrize(
    ("show", "arguments", "message"),
    [
        ("", ["--show", "nobody"], "--show"),
        ('query = "nobody"', [], "[show] query"),
        ('liked = "stars > 3"', [], "[show] liked"),
        ('liked = "rating >= 4"', [], "[show] liked"),
        ('columns = ["title"]', [], "[show] columns"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_training(world, no_training, show, arguments, message):
    (world / "run.toml").write_text(f"{CONFIG}[show]\n{show}\n")
    result = retrank("train", "run.toml", "--out", "out", *arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr.splitlines()[-1]


def test_showing_follows_the_configuration(world):
    show = """[show]\nquery = "007"\nliked = "rating = 'good'"\ncolumns = ["song", "released"]\n"""
    (world / "run.toml").write_text(CONFIG + show)
    result = retrank("train", "run.toml", "--out", "out")
    assert result.returncode == 0, result.stderr
    liked = plays().filter(pl.col("person") == "007", pl.col("rating") == "good", pl.col("time") < 5)
    first = result.stdout[result.stdout.index("007 chose last") :].split("what we recommend")[0]
    assert [line.split("│")[1].strip() for line in first.splitlines() if "2020-" in line] == liked["song"][
        ::-1
    ].to_list()
    assert "length" not in result.stdout
    assert "--user 007 " in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('query = ["person", "age"]', 'query = ["age", "person"]', "retrieval.query"),
        ('query = ["person", "age"]', "query = []", "retrieval.query"),
        ('candidate = ["song"]\n', 'candidate = ["person"]\n', "retrieval.candidate"),
        ('"person", "age"]', '"person", "height"]', "height"),
        ('time = "time"', 'time = "time"\nhistory = 5', "data.history"),
        ("[retrieval]", f"{RECENT}[retrieval]", "write e.g. history = 50"),
        ("[retrieval]", '[ranking]\nfeatures = ["height"]\n[retrieval]', "height"),
        ("layers = [4]", "layers = [4]\ndropout = 0.5", "dropout"),
    ],
)
def test_models_that_cannot_be_made_are_refused_before_training(world, no_training, old, new, message):
    assert old in CONFIG
    with pytest.raises(ConfigError, match=message):
        pipeline_of(world, CONFIG.replace(old, new, 1)).load()


def test_tables_with_too_little_in_them_are_refused_before_training(world, no_training):
    plays(num_plays=2).with_columns(song=pl.lit("01")).write_parquet("plays.parquet")
    with pytest.raises(DataError, match="split.test"):
        pipeline_of(world, CONFIG).load()
    plays(num_plays=2).write_parquet("plays.parquet")
    with pytest.raises(DataError, match="two rows or more"):
        pipeline_of(world, CONFIG + '[ranking]\nfeatures = ["age"]\n').load()
    past = CONFIG.replace('time = "time"', 'time = "time"\nhistory = 5') + RECENT
    with pytest.raises(DataError, match="'train'"):  # one play each is left, and none has a past
        pipeline_of(world, past.replace("layers", 'query_residual = "recent"\nlayers')).load()


def test_a_column_of_that_name_is_not_overwritten(world, no_training):
    plays().with_columns(recent=pl.lit(["01"])).write_parquet("plays.parquet")
    with pytest.raises(ConfigError, match="data.history"):
        pipeline_of(world, CONFIG.replace('time = "time"', 'time = "time"\nhistory = 5') + RECENT).load()


@pytest.mark.parametrize(("name", "column"), [("recent", "recent"), ("past", "recent"), ("recent", "before")])
def test_rows_without_a_past_are_left_out_by_the_column_and_not_by_the_name(world, name, column):
    feature = f'[features.{name}]\nkind = "Recent"\nof = "song"\ncolumn = "{column}"\n'
    config = CONFIG.replace("layers", f'query_residual = "{name}"\nlayers') + feature
    if column == "recent":
        config = config.replace('time = "time"', 'time = "time"\nhistory = 3')
    else:
        plays().with_columns(before=pl.lit([], pl.List(pl.String))).write_parquet("plays.parquet")
    said = []
    pipeline = pipeline_of(world, config, say=said.append)
    pipeline.train(pipeline.load(), seed=0)
    assert any("12 interactions without a history" in text for text in said) == (column == "recent")


@pytest.fixture
def bundle(world):
    assert retrank("train", "run.toml", "--out", "out", "--json").returncode == 0
    return world / "out"


def test_evaluation_reads_keys_as_the_bundle_has_them(world, bundle):
    test = plays().filter(pl.col("time") == 5)
    test.write_csv("test.csv")
    test.write_parquet("test.parquet")
    reports = [retrank("evaluate", bundle, "--test", f"test.{kind}", "--json").stdout for kind in ("csv", "parquet")]
    assert json.loads(reports[0])["num_queries"] == 12
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"person": pl.Series([901, 902], dtype=pl.Int64)}, "'person'"),
        ({"person": pl.Series(["x", "y"])}, "such as '000'"),
        ({"song": pl.Series(["x", "y"])}, "such as '00'"),
    ],
)
def test_evaluation_of_other_keys_says_so(world, bundle, change, message):
    plays()[:2].with_columns(**change).write_parquet("test.parquet")
    result = retrank("evaluate", bundle, "--test", "test.parquet")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    plays()[:2].drop("song").write_csv("test.csv")
    assert "'song'" in retrank("evaluate", bundle, "--test", "test.csv").stderr


def test_lists_of_csv_files_are_split_at_their_separator(world):
    pl.DataFrame({"song": [f"{s:02}" for s in range(20)], "genres": ["rock|pop", "pop"] * 10}).write_csv("songs.csv")
    genres = '[features.genres]\nkind = "CategoricalList"\nseparator = "|"\n[retrieval]'
    config = CONFIG.replace("songs.parquet", "songs.csv").replace("[retrieval]", genres)
    tables = pipeline_of(world, config.replace('["song"]', '["song", "genres"]')).load()
    assert [len(ids) for ids in tables.catalogue.batch["genres"].to_lists()] == [2, 1] * 10
