"""The serving example runs from end to end, on invented data, and prints the tables that the documentation shows."""

import dataclasses
from functools import partial

import polars as pl
import pytest
import torch

from tests.test_examples import EXAMPLES, example, table

pytest.importorskip("faiss")
pytestmark = pytest.mark.usefixtures("fake_movielens_data")
HEAD = ["recall@10", "recall@100", "queries/s", "ms, one query", "MB", "build s"]


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return example("ann_serving")


def test_all_indexes_stand_side_by_side(serving, capsys, monkeypatch):
    data = serving.rr.datasets.movielens_100k()
    few = data.interactions.filter(pl.col("user_id").is_in(data.queries["user_id"][:240].implode()))[:21_000]
    monkeypatch.setattr(serving.rr.datasets, "movielens_100k", lambda: dataclasses.replace(data, interactions=few))
    monkeypatch.setattr(serving, "invented", partial(serving.invented, num_clusters=30, num_queries=100))
    serving.main([3000], rounds=1, epochs=1)
    threads, movies, invented = capsys.readouterr().out.split("\n\n")
    assert threads.startswith("threads: ")
    tables = [table(text.strip()) for text in (movies, invented)]
    assert tables[0][0] == ["1,682 movies", *HEAD, "top-100 accuracy"]
    assert tables[1][0] == ["3,000 invented", *HEAD]
    for _, *rows in tables:
        exact, lists, graph, codes, rescored = ([float(cell.replace(",", "")) for cell in row[1:]] for row in rows)
        assert [row[0].split(",")[-1].strip(" `") for row in rows][-1] == "rescore 4"
        assert exact[:2] == [1.0, 1.0]
        assert all(0.2 < recall <= 1 for row in (lists, graph, codes, rescored) for recall in row[:2])
        assert codes[0] < rescored[0] <= lists[0]
        assert codes[4] < rescored[4]
        assert all(row[2] > 0 and row[3] > 0 for row in (exact, lists, graph, codes, rescored))
    accuracies = [float(row[-1]) for row in tables[0][1:]]
    assert all(0.5 * accuracies[0] < accuracy <= 1.1 * accuracies[0] for accuracy in accuracies)


def test_an_index_that_comes_back_different_is_noticed(serving, tmp_path, monkeypatch):
    catalogue = serving.invented(500, num_clusters=10, num_queries=60)
    other = serving.rr.index.Exact(torch.randn(500, 64))
    monkeypatch.setattr(serving.rr.index, "load_index", lambda folder: other)
    with pytest.raises(RuntimeError, match="other results"):
        serving.serve(catalogue, serving.rr.index.Exact, tmp_path / "index")
