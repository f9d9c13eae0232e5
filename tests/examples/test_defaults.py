"""The example that asks whether the defaults win prints its table, on small data of each form."""

import tomllib
from dataclasses import replace

import pytest

import retrank as rr
from retrank.cli.config import load_config, quickstart_config
from tests.test_examples import example, table

BASELINES = ["popularity", "item-kNN", "EASE, default", "EASE, tuned"]
COMMAND = ["retrank train, two-tower", "retrank train, two-stage"]


@pytest.fixture(scope="module")
def defaults():
    return example("defaults")


@pytest.fixture(scope="module")
def world(defaults):
    return defaults.synthetic(30, 25, 600)


@pytest.fixture
def run(defaults, monkeypatch, capsys, tmp_path):
    def printed(data, **arguments):
        monkeypatch.setitem(defaults.DATA, "small", lambda _: data)
        defaults.main("small", 1, folder=tmp_path, **arguments)
        head, *rows = table(capsys.readouterr().out)
        assert head[0] == "system"
        assert head[1::2] == ["ndcg@10", "recall@10"]
        for row in rows:
            assert 0 < float(row[1]) < 1
            assert (row[2] == "") == row[0].startswith("EASE, tuned")
        return [row[0].split(" (")[0] for row in rows]

    return printed


@pytest.fixture
def stubbed(defaults, monkeypatch):
    """Do not run the command line, which the tests without this do."""
    monkeypatch.setattr(defaults, "configured", lambda data, seed: defaults.readme(data, seed, epochs=1))


@pytest.mark.usefixtures("stubbed")
def test_quick_searches_no_settings(run, world):
    assert run(replace(world, last=None), quick=True) == [*BASELINES, "README", *COMMAND]


@pytest.mark.usefixtures("stubbed")
def test_without_times_what_a_query_has_stands_in(run, world):
    pairs = {"train": world.train.drop("timestamp"), "test": world.test.drop("timestamp")}
    assert run(replace(world, **pairs, time=None, last=None)) == [*BASELINES, "README", *COMMAND, "README, tuned"]


@pytest.mark.slow
@pytest.mark.parametrize("times", [True, False])
def test_the_command_line_trains_on_what_the_program_trains_on(run, world, times):
    pairs = {"train": world.train.drop("timestamp"), "test": world.test.drop("timestamp")}
    data = world if times else replace(world, **pairs, time=None, last=None)
    assert run(data, quick=True) == [*BASELINES, "README", *COMMAND]


def test_the_configuration_is_the_untouched_one_but_for_files_and_columns(defaults, world, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(defaults.as_toml(defaults.configuration(world, 7)))
    config, own = load_config(path), quickstart_config()
    names = {"query", "candidate", "candidate_residual"}
    assert config.retrieval.model_dump(exclude=names) == own.retrieval.model_dump(exclude=names)
    assert config.ranking.model_dump(exclude={"features"}) == own.ranking.model_dump(exclude={"features"})
    assert config.split.model_dump(exclude={"test"}) == own.split.model_dump(exclude={"test"})
    assert (config.baselines, config.seed) == (own.baselines, 7)
    assert tomllib.loads(path.read_text())["features"]["tags"] == {"kind": "CategoricalList"}


def test_files_of_others_are_read_and_their_absence_is_said(defaults, tmp_path, capsys):
    defaults.main("beauty", 1, folder=tmp_path)
    assert "beauty: skipped" in capsys.readouterr().out
    for name, text in {"s3rec/Beauty.txt": "1 5 3 4\n2 3 5\n", "ultragcn-ml-1m/train.txt": "0 7 8\n1 8\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "ultragcn-ml-1m" / "test.txt").write_text("0 9\n1 \n")
    beauty, movies = defaults.beauty(tmp_path), defaults.movielens_1m(tmp_path)
    assert beauty.test.rows() == [("1", "4", 2), ("2", "5", 1)]
    assert beauty.train.select("user", "item").rows() == [("1", "5"), ("1", "3"), ("2", "3")]
    assert movies.test.rows() == [("0", "9")]
    assert movies.candidates["item"].to_list() == ["7", "8", "9"]
    assert isinstance(defaults.readme(movies, 0, epochs=1), rr.Recommender)
