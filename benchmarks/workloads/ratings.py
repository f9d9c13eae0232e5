"""Two embeddings and an MLP that learn ratings: the ranking tutorial of TFRS."""

from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload
from benchmarks.workloads.two_tower import keras_epochs

DIM, BATCH, UNITS, RATE = 32, 8192, [256, 64, 1], 0.1
KEYS = ("user_id", "movie_id")


def ours(parts: int = 1) -> Job:
    import torch
    from torch import nn

    import retrank as rr
    from benchmarks.workloads.ours import epochs, table

    train = table(data.movielens()[0])
    ids = {name: rr.features.Categorical() for name in KEYS}
    space = rr.FeatureSpace({**ids, "rating": rr.features.Passthrough()}).fit(train)
    train = train[: len(train) // parts]

    class Ratings(rr.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.movie = (rr.EmbeddingTable(space.schema[name], DIM) for name in KEYS)
            self.score = rr.layers.MLP(2 * DIM, UNITS)
            self.task = rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])

        def forward(self, batch: rr.Batch) -> torch.Tensor:
            return self.score(torch.cat([self.user(batch["user_id"]), self.movie(batch["movie_id"])], dim=1))[:, 0]

        def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:  # noqa: ARG002
            return self.task(labels=batch["rating"], predictions=self(batch))

    return epochs(Ratings(), space.loader(train, BATCH, shuffle=True), rr.optim.Adagrad(lr=RATE), len(train))


def tfrs() -> Job:
    import numpy as np
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    train, _ = data.movielens()
    layers = tf.keras.layers

    def tower(name: str) -> Any:
        keys = np.unique(train[name])
        lookup = layers.StringLookup(vocabulary=keys, mask_token=None)
        return tf.keras.Sequential([lookup, layers.Embedding(len(keys) + 1, DIM)])

    class Ratings(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.movie = map(tower, KEYS)
            hidden = [layers.Dense(units, activation="relu") for units in UNITS[:-1]]
            self.score = tf.keras.Sequential([*hidden, layers.Dense(UNITS[-1])])
            self.task = tfrs.tasks.Ranking(
                loss=tf.keras.losses.MeanSquaredError(), metrics=[tf.keras.metrics.RootMeanSquaredError()]
            )

        def compute_loss(self, batch: Any, training: bool = False) -> Any:  # noqa: ARG002
            vectors = tf.concat([self.user(batch["user_id"]), self.movie(batch["movie_id"])], axis=1)
            return self.task(labels=batch["rating"], predictions=self.score(vectors))

    model = Ratings()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(RATE))
    rows = tf.data.Dataset.from_tensor_slices({name: train[name] for name in (*KEYS, "rating")})
    batches = rows.shuffle(100_000).batch(BATCH).cache()
    return keras_epochs(tf.keras, model, len(train["rating"]), batches)


def limit() -> Job:
    from benchmarks.limits import products

    widths = [2 * DIM, *UNITS]
    return products([(80_000, a, b) for a, b in zip(widths, UNITS, strict=False)], 80_000)


OURS = "retrank"
WORKLOAD = Workload(
    "ratings",
    "Rating model",
    [
        Case(
            "movielens",
            "An epoch of MovieLens-100K, vectors of 32, MLP 256-64-1, batches of 8,192, Adagrad",
            "examples",
            [
                Contender(OURS, ours, "ours", libraries=("torch", "retrank")),
                Contender("TFRS", tfrs, environment="tfrs", libraries=("tensorflow", "tensorflow_recommenders")),
                Contender("limit: matrix products of the MLP", limit, "limit"),
            ],
            [Goal(OURS, "TFRS", rate=2.0)],
            note=(
                "TFRS looks up strings within its model, as its tutorial does, and repeats one order of its rows. Our "
                "whole step takes hardly longer than its bare matrix products in torch; twice the speed of TFRS would "
                "need more multiplications a second than the processor has."
            ),
            warm_ups=2,
        ),
        Case(
            "scaling",
            "The same as the rows grow",
            "examples",
            [
                Contender(
                    f"{OURS}, {80_000 // parts:,}",
                    partial(ours, parts),
                    "ours",
                    libraries=("torch", "retrank"),
                    size=80_000 / parts,
                )
                for parts in (9, 3, 1)
            ],
            grows="rows",
            warm_ups=2,
        ),
    ],
    prepare=data.save_movielens,
)
