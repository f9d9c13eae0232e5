"""The examples run from end to end, on invented data, and print the tables that the documentation shows."""

import importlib.util
from pathlib import Path

import pytest

import retrank as rr

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.usefixtures("fake_movielens_data")


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(text):
    """Return the cells of a Markdown table, without the line below its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert set(lines[1]) == {"---"}
    return [lines[0], *lines[2:]]


def test_basic_ranking_prints_the_error_of_each_setting(capsys):
    example("basic_ranking").main(seeds=1, epochs=1)
    head, *rows = table(capsys.readouterr().out)
    assert head == ["setting", "test RMSE, mean ± std", "each seed"]
    assert [row[0] for row in rows] == ["mean rating", "mean, user bias and movie bias", "tutorial", "recommended"]
    errors = [float(row[1].split(" ± ")[0]) for row in rows]
    assert all(0.4 < error < 1.5 for error in errors)
    assert errors[1] < errors[0]
    assert [row[2] for row in rows] == ["", "", *(f"{error:.4f}" for error in errors[2:])]


@pytest.mark.filterwarnings("ignore:.*count as misses")
def test_deep_recommender_prints_the_accuracy_of_each_kind_of_negatives(capsys):
    example("deep_recommender").main(seeds=1, epochs=1, layers=(2,))
    head, *rows = table(capsys.readouterr().out)
    assert head == ["system", "layers", "top-100 accuracy, mean ± std", "each seed"]
    assert [row[0].split(",")[0] for row in rows] == [
        "popularity", "number of 5-star ratings", "Keras-RS", "retrank", "retrank",
    ]  # fmt: skip
    assert ["`catalogue`" in row[0] for row in rows] == [False, False, False, True, False]
    assert [row[1] for row in rows] == ["", "", "2", "2", "2"]
    shares = [float(row[2].split(" ± ")[0]) for row in rows]
    assert all(100 / 1682 < share < 1 for share in shares)
    assert [row[3] for row in rows[3:]] == [f"{share:.4f}" for share in shares[3:]]


@pytest.mark.filterwarnings("ignore:.*count as misses")
def test_basic_retrieval_prints_the_accuracy_with_seen_movies_kept_and_excluded(capsys):
    example("basic_retrieval").main(seeds=1, epochs=1, systems=["two-tower"])
    head, *rows = table(capsys.readouterr().out)
    assert head == [
        "system", "seen", "top-1", "top-5", "top-10", "top-50", "top-100, mean ± std", "each seed",
    ]  # fmt: skip
    shares = {(row[0].split(",")[0], row[1]): [float(cell) for cell in row[2:7]] for row in rows}
    assert [system for system, seen in shares if seen == "kept"] == [
        "popularity", "EASE", "TensorFlow Recommenders", "two-tower",
    ]  # fmt: skip
    assert all(values == sorted(values) for values in shares.values())
    for (system, seen), values in shares.items():
        assert 50 / 1682 < values[-1] < 1
        if seen == "excluded":
            assert values[-1] > shares[system, "kept"][-1]


def test_basic_retrieval_trains_each_system_on_a_few_rows():
    module = example("basic_retrieval")
    data = rr.datasets.movielens_100k()
    rows = data.interactions[:2000]
    space = module.feature_space(rows)
    movies = space.catalogue(data.candidates, key="movie_id")
    models = {name: learn(space, movies, rows, 0, epochs=1) for name, learn in module.SYSTEMS.items()}
    widths = {name: model.embed_queries(space.transform(rows[:3])).shape[1] for name, model in models.items()}
    assert widths == {"tutorial": 32, "tutorial, loss averaged": 32, "factorization": 65, "two-tower": 64}
    assert [model.task.reduction for model in models.values()] == ["sum", "mean", "mean", "mean"]


def test_basic_retrieval_prints_one_run_without_a_spread(capsys):
    print_row = example("basic_retrieval").print_row
    run = {1: 0.1, 5: 0.2, 10: 0.3, 50: 0.4, 100: 0.5}
    print_row("one", "kept", [run])
    print_row("two", "kept", [run, {k: value + 0.2 for k, value in run.items()}])
    assert capsys.readouterr().out.splitlines() == [
        "| one | kept | 0.1000 | 0.2000 | 0.3000 | 0.4000 | 0.5000 | |",
        "| two | kept | 0.2000 | 0.3000 | 0.4000 | 0.5000 | 0.6000 ± 0.1000 | 0.5000, 0.7000 |",
    ]
