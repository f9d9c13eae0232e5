"""Evaluation of MovieLens-100K: where the movie of each test row ranks among all 1,682."""

from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

DIM, BATCH, KS = 32, 4096, (1, 5, 10, 50, 100)


def ours(parts: int = 1) -> Job:
    import retrank as rr
    from benchmarks.workloads.ours import table

    train, test = map(table, data.movielens())
    test = test[: len(test) // parts]
    ids = {name: rr.features.Categorical() for name in ("user_id", "movie_id")}
    space = rr.FeatureSpace(ids).fit(train.vstack(test))
    model = rr.models.MatrixFactorization(
        space.schema["user_id"],
        space.schema["movie_id"],
        rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=KS)]),
        dim=DIM,
        bias=False,
        catalogue=space.catalogue(train.vstack(test).select("movie_id").unique(), key="movie_id"),
    )
    batches = space.loader(test, BATCH)
    return repeated(lambda: model.evaluate(batches), len(test))


def tfrs() -> Job:
    import numpy as np
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    train, test = data.movielens()
    keys = {name: np.unique(np.concatenate([train[name], test[name]])) for name in ("user_id", "movie_id")}

    def tower(name: str) -> Any:
        lookup = tf.keras.layers.StringLookup(vocabulary=keys[name], mask_token=None)
        return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(keys[name]) + 1, DIM)])

    class TwoTower(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.movie = tower("user_id"), tower("movie_id")
            candidates = tf.data.Dataset.from_tensor_slices(keys["movie_id"]).batch(128).map(self.movie)
            self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates, ks=KS))

        def compute_loss(self, batch: Any, training: bool = False) -> Any:  # noqa: ARG002
            return self.task(self.user(batch["user_id"]), self.movie(batch["movie_id"]))

    model = TwoTower()
    model.compile()
    rows = tf.data.Dataset.from_tensor_slices({name: test[name] for name in keys}).batch(BATCH).cache()
    return repeated(lambda: model.evaluate(rows, verbose=0), len(test["rating"]))


def limit() -> Job:
    import torch

    from benchmarks.limits import best_of, blocked_scores

    queries, candidates = torch.randn(data.TEST_ROWS, DIM), torch.randn(1682, DIM)
    ways = {
        f"blocks of {rows} x {columns}": partial(blocked_scores, queries, candidates, (rows, columns), id)
        for rows, columns in ((1024, 1682), (512, 1682), (256, 1682), (1024, 841))
    }
    return best_of(ways, len(queries))


OURS = "retrank, model.evaluate"
WORKLOAD = Workload(
    "movielens_evaluation",
    "Evaluation of MovieLens-100K",
    [
        Case(
            "movielens",
            "20,000 test rows among 1,682 movies, vectors of 32, top 1, 5, 10, 50 and 100",
            "queries",
            [
                Contender(OURS, ours, "ours", libraries=("torch", "retrank")),
                Contender(
                    "TFRS, model.evaluate with FactorizedTopK",
                    tfrs,
                    environment="tfrs",
                    libraries=("tensorflow", "tensorflow_recommenders"),
                ),
                Contender("limit: products of queries and candidates in blocks", limit, "limit"),
            ],
            [Goal(OURS, "TFRS, model.evaluate with FactorizedTopK", rate=60.0)],
            note="Both also compute the in-batch loss of the test rows, which the limit does not.",
        ),
        Case(
            "scaling",
            "The same as the number of test rows grows",
            "queries",
            [
                Contender(
                    f"{OURS}, {20_000 // parts:,}",
                    partial(ours, parts),
                    "ours",
                    libraries=("torch", "retrank"),
                    size=20_000 / parts,
                )
                for parts in (16, 4, 1)
            ],
            grows="test rows",
        ),
    ],
    prepare=data.save_movielens,
)
