"""The example runs from end to end on invented data, and prints the tables that the documentation shows."""

import pytest
import torch

import retrank as rr
from tests.test_examples import example, table

pytestmark = pytest.mark.usefixtures("fake_movielens_data")


@pytest.fixture
def module():
    return example("multi_task")


@pytest.fixture
def data(module):
    movielens = rr.datasets.movielens_100k()
    rows = movielens.interactions
    return module.prepare(movielens, rows[:1200], rows[1200:1500])


def test_both_tables_are_printed(module, data, monkeypatch, capsys):
    monkeypatch.setattr(module, "prepare", lambda *_: data)
    module.main(seeds=1, epochs=1)
    qualities, ready_made = (table(part.strip()) for part in capsys.readouterr().out.split("\n\n"))
    head, *rows = qualities
    assert head[:4] == ["setting", "weight of rating", "weight of retrieval", "test RMSE"]
    assert head[4:] == ["top-100, seen kept", "top-100, seen excluded"]
    assert [row[0] for row in rows] == ["tutorial"] * 3 + ["recommended"] * 3
    assert [row[1:3] for row in rows[:3]] == [["1", "0"], ["0", "1"], ["1", "1"]]
    for row in rows:
        error, kept, excluded = map(float, row[3:])
        assert 0.4 < error < 6
        assert 0 < kept <= excluded + 0.02 < 1
    head, *rows = ready_made
    assert head == ["tasks", "experts", "weights of the losses", "stars: test RMSE", "liked: test AUC"]
    assert [row[0] for row in rows] == ["stars", "liked"] + ["stars and liked"] * 4
    assert [bool(row[3]) for row in rows] == [True, False, True, True, True, True]
    assert [bool(row[4]) for row in rows] == [False, True, True, True, True, True]


@pytest.mark.parametrize("name", ["TutorialModel", "RecommendedModel"])
def test_a_task_of_weight_zero_teaches_nothing(module, data, name):
    rows = data.train[:200]
    losses = [getattr(module, name)(data, *weights).compute_loss(rows, training=True) for weights in ((1, 0), (0, 1))]
    assert losses[0].item() < 20 < losses[1].item() * (1 if name == "TutorialModel" else 10)
    for weights, idle in (((1, 0), "popularity"), ((0, 1), "stars")):
        model = getattr(module, name)(data, *weights)
        model.compute_loss(rows, training=True).backward()
        for parameter, value in model.named_parameters():
            if parameter.startswith(idle):
                assert not value.grad.to_dense().any(), parameter


def test_the_corpus_metrics_agree_with_a_ready_made_model(module, data):
    model = module.RecommendedModel(data, 1, 1)
    with torch.no_grad():
        for table_ in (model.user, model.movie, model.popularity):
            table_.weight[1:].normal_(generator=rr.core.generator(1))
    ready_made = rr.models.MatrixFactorization(
        data.space.schema["user_id"], data.space.schema["movie_id"], rr.tasks.Retrieval(metrics=[module.top_k()]),
        dim=64, catalogue=data.movies,
    )  # fmt: skip
    ready_made.query_embeddings = lambda batch: torch.nn.functional.pad(model.user(batch["user_id"]), (0, 1), value=1.0)
    ready_made.candidate_embeddings = lambda batch: torch.cat(
        [model.movie(batch["movie_id"]), model.popularity(batch["movie_id"])], dim=1
    )
    known = data.test["movie_id"] != 1
    test = data.test.take(known.nonzero()[:, 0])
    _, kept, excluded = module.quality(model, test)
    batches = rr.data.Loader(test, batch_size=100)
    assert ready_made.evaluate(batches)["hit_rate@100"] == pytest.approx(kept)
    assert ready_made.evaluate(batches, exclude="seen")["hit_rate@100"] == pytest.approx(excluded)
