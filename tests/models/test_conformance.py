"""Every model in a world of viewers who like films of their own parity."""

import numpy as np
import polars as pl
import pytest
import torch
from tests.conformance import ModelCase, ModelConformance
from tests.models.worlds import NUM_MOVIES, NUM_USERS, movies, space, two_tower, views
from torch import nn

import retrank as rr
from retrank import layers, models

SPACE = space()
CATALOGUE = SPACE.catalogue(movies(), key="movie_id")
VIEWS = SPACE.transform(views(192, seed=5))
RETRIEVAL = {"examples": VIEWS, "rows": VIEWS[:12], "context": {"space": SPACE, "catalogue": CATALOGUE}, "bar": 0.9}


def rated(num_rows=256):
    rng = np.random.default_rng(3)
    user, movie = rng.integers(NUM_USERS, size=num_rows), rng.integers(NUM_MOVIES, size=num_rows)
    table = pl.DataFrame({"user_id": user, "age": 20.0 + user, "movie_id": [f"m{i}" for i in movie], "rating": 3.0})
    batch = SPACE.transform(table.join(movies(), on="movie_id", maintain_order="left"))
    likes = torch.from_numpy((user % 2 == movie % 2).astype(np.float32))
    stars = torch.where(torch.from_numpy(rng.random(num_rows)) < 0.3, torch.nan, 1 + 4 * likes)
    return batch.merge({"label": likes, "stars": stars})


RATED = rated()
PAIRS = {"examples": RATED, "rows": RATED[:12], "epochs": 20, "bar": 0.5}


def tables(**dims):
    dims = dims or {"user_id": 8, "movie_id": 8, "genres": 8}
    return rr.EmbeddingCollection(
        {name: rr.EmbeddingTable(SPACE.schema[name], dim, scale=0.3) for name, dim in dims.items()}
    )


def wide(name="user_id_x_age"):
    return rr.EmbeddingCollection({name: rr.EmbeddingTable(SPACE.schema[name], 1)})


def multitask(experts=None, **arguments):
    tasks = {
        "label": rr.tasks.Ranking(metrics=[rr.metrics.AUC()]),
        "stars": rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]),
    }
    built = None if experts is None else experts(tasks=list(tasks))
    return models.MultiTaskRanking(
        tables(), tasks, experts=built, tower_layers=[8], dense_features=["year"], **arguments
    )


def lists(num_lists=64, k=5):
    draw = torch.Generator().manual_seed(0)
    queries = VIEWS[:num_lists]
    rows = torch.stack([torch.randperm(NUM_MOVIES, generator=draw)[:k] for _ in range(num_lists)])
    positive = rows.argmin(dim=1)  # the first film of the catalogue in the list
    scores = torch.randn(num_lists, k, generator=draw)
    return queries.select(["user_id", "age"]).merge(
        {models.ROWS: rows, models.RETRIEVAL_SCORE: scores, models.POSITIVE: positive}
    )


def reranker():
    return models.Reranker(
        SPACE, ["user_id", "genres", "year"], candidate_id="movie_id", catalogue=CATALOGUE, dropout=0.0
    )


def pairs(num_lists):
    batch = lists()[:num_lists]
    candidates = models.Candidates(batch[models.RETRIEVAL_SCORE], batch[models.ROWS])
    return models.pair_batch(batch.select(["user_id", "age"]), CATALOGUE.batch, candidates)


def attention():
    return layers.FieldAttention(num_layers=2, head_dim=4)


CASES = {
    "two_tower": ModelCase(lambda: two_tower(SPACE, catalogue=CATALOGUE), **RETRIEVAL),
    "two_tower_catalogue": ModelCase(
        lambda: two_tower(SPACE, catalogue=CATALOGUE, negatives="catalogue"), **RETRIEVAL, reads_catalogue=True
    ),
    "two_tower_sampled": ModelCase(
        lambda: two_tower(
            SPACE,
            rr.tasks.Retrieval(log_q=True, remove_accidental_hits=True),
            catalogue=CATALOGUE,
            negatives=rr.sampling.Uniform(8, unique=False),
        ),
        **RETRIEVAL,
        reads_catalogue=True,
    ),
    "dssm": ModelCase(
        lambda: two_tower(SPACE, rr.tasks.Retrieval(temperature=0.2), catalogue=CATALOGUE, normalize=True), **RETRIEVAL
    ),
    "matrix_factorization": ModelCase(
        lambda: models.MatrixFactorization(
            SPACE.schema["user_id"], SPACE.schema["movie_id"], rr.tasks.Retrieval(), dim=4, catalogue=CATALOGUE
        ),
        **RETRIEVAL,
    ),
    "youtube_dnn": ModelCase(
        lambda: models.youtube_dnn(SPACE, ["user_id", "title"], candidate_id="movie_id", catalogue=CATALOGUE, dim=4),
        **RETRIEVAL,
        reads_catalogue=True,
    ),
    "dlrm": ModelCase(lambda: models.Ranking(tables(), dense_features=["year"]), **PAIRS),
    "dcn_stacked": ModelCase(
        lambda: models.dcn_v2(tables(user_id=4, movie_id=8), layers=[16], dense_features=["year"]), **PAIRS
    ),
    "dcn_parallel": ModelCase(
        lambda: models.dcn_v2(tables(), structure="parallel", projection_dim=4, layers=[16]), **PAIRS
    ),
    "wide_and_deep": ModelCase(
        lambda: models.wide_and_deep(tables(), wide(), layers=[16, 8], dense_features=["year"]), **PAIRS
    ),
    "deepfm": ModelCase(lambda: models.deepfm(tables(), layers=[16], dense_features=["year"]), **PAIRS),
    "xdeepfm": ModelCase(lambda: models.xdeepfm(tables(), cross_units=[4, 4], layers=[16]), **PAIRS),
    "autoint": ModelCase(lambda: models.autoint(tables(), attention=attention(), dense_features=["year"]), **PAIRS),
    "autoint_plus": ModelCase(lambda: models.autoint(tables(), attention=attention(), layers=[8]), **PAIRS),
    "finalmlp": ModelCase(
        lambda: models.finalmlp(
            tables(),
            first_layers=[16, 8],
            second_layers=[8],
            num_heads=2,
            first_context=["user_id"],
            second_context=["movie_id", "genres"],
            gate_units=4,
            dense_features=["year"],
        ),
        **PAIRS,
    ),
    "ncf": ModelCase(
        lambda: models.ncf(SPACE.schema["user_id"], SPACE.schema["movie_id"], dim=4, layers=[8, 4]), **PAIRS
    ),
    "shared_bottom": ModelCase(lambda: multitask(weight="rating"), **PAIRS),
    "mmoe": ModelCase(
        lambda: multitask(
            lambda tasks: layers.MMoE(None, [16, 8], tasks=tasks),
            task_weights={"stars": 0.5},
            labels={"stars": "stars"},
        ),
        **PAIRS,
    ),
    "ple": ModelCase(
        lambda: multitask(lambda tasks: layers.PLE(None, [[16], [8]], tasks=tasks), task_weights="uncertainty"), **PAIRS
    ),
    "task_score": ModelCase(lambda: models.TaskScore(multitask(), {"label": 1.0, "stars": 0.2}), **PAIRS),
    "reranker": ModelCase(
        reranker,
        examples=lists(),
        rows=pairs(3),
        context={"space": SPACE, "catalogue": CATALOGUE},
        epochs=40,
        are_rows_independent=False,
        reads_catalogue=True,
    ),
}


class TestModels(ModelConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        return request.param
