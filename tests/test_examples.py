"""The examples run from end to end, on invented data, and print the tables that the documentation shows."""

import importlib.util
from pathlib import Path

import pytest

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
