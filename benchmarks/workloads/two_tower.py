"""Training of two towers on positives alone: the other candidates of the batch are the negatives."""

from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Tick, Workload, repeated

DIM, BATCH = 32, 8192
BLOCKS = ((1024, 1024), (512, 2048), (256, 4096), (2048, 1024), (256, 1024))


def ours() -> Job:
    import retrank as rr
    from benchmarks.workloads.ours import epochs, table

    train = table(data.movielens()[0])
    ids = {name: rr.features.Categorical() for name in ("user_id", "movie_id")}
    space = rr.FeatureSpace(ids).fit(train)
    model = rr.models.MatrixFactorization(
        space.schema["user_id"],
        space.schema["movie_id"],
        rr.tasks.Retrieval(reduction="sum"),
        dim=DIM,
        bias=False,
    )
    return epochs(model, space.loader(train, BATCH, shuffle=True), rr.optim.Adagrad(lr=0.1), len(train))


def tfrs() -> Job:
    import numpy as np
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    train, _ = data.movielens()

    def tower(name: str) -> Any:
        keys = np.unique(train[name])
        lookup = tf.keras.layers.StringLookup(vocabulary=keys, mask_token=None)
        return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(keys) + 1, DIM)])

    class TwoTower(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.movie = tower("user_id"), tower("movie_id")
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, batch: Any, training: bool = False) -> Any:
            queries, candidates = self.user(batch["user_id"]), self.movie(batch["movie_id"])
            return self.task(queries, candidates, compute_metrics=not training)

    rows = tf.data.Dataset.from_tensor_slices({name: train[name] for name in ("user_id", "movie_id")})
    model = TwoTower()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    batches = rows.shuffle(100_000).batch(BATCH).cache()
    return keras_epochs(tf.keras, model, len(train["rating"]), batches)


def keras_epochs(keras: Any, model: Any, work: float, *rows: Any, **options: Any) -> Job:
    """Return the job of one `fit` of Keras, old or new, an epoch a repeat."""

    class AtEpochEnd(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self, tick: Tick) -> None:
            super().__init__()
            self.tick = tick

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
            self.tick()

    return Job(lambda tick: model.fit(*rows, epochs=10**9, verbose=0, callbacks=[AtEpochEnd(tick)], **options), work)


def plain_torch() -> Job:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    train, _ = data.movielens()
    users, movies = (
        torch.from_numpy(np.unique(train[name], return_inverse=True)[1]) for name in ("user_id", "movie_id")
    )
    towers = [nn.Embedding(int(ids.max()) + 1, DIM, sparse=True) for ids in (users, movies)]
    for tower in towers:
        nn.init.uniform_(tower.weight, -0.05, 0.05)
    weights = [tower.weight for tower in towers]
    optimizer = torch.optim.Adagrad(weights, lr=0.1, initial_accumulator_value=0.1, eps=1e-7)

    def epoch() -> None:
        for rows in torch.randperm(len(users)).split(BATCH):
            scores = towers[0](users[rows]) @ towers[1](movies[rows]).T
            loss = cross_entropy(scores, torch.arange(len(rows)), reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return repeated(epoch, len(users))


def limit(batches: list[int], dim: int, *, share: int = 1) -> Job:
    """Multiply and exponentiate alone; with `share`, for one of so many parts of the queries."""
    import torch

    from benchmarks.limits import best_of, softmax_blocks

    parts = [(torch.randn(rows // share, dim) / 20, torch.randn(rows, dim) / 20) for rows in batches]

    def step(block: tuple[int, int]) -> None:
        for queries, candidates in parts:
            softmax_blocks(queries, candidates, block)

    ways = {f"blocks of {rows} x {columns}": partial(step, (rows, columns)) for rows, columns in BLOCKS}
    return best_of(ways, sum(len(queries) for queries, _ in parts), trials=1)


def loss_and_gradients(rows: int, dim: int = 64) -> Job:
    import torch

    import retrank as rr

    task = rr.tasks.Retrieval()
    generator = torch.Generator().manual_seed(0)
    queries, candidates = ((torch.randn(rows, dim, generator=generator) / 8).requires_grad_() for _ in range(2))

    def step(some: int = rows) -> None:
        queries.grad = candidates.grad = None
        task(queries[:some], candidates[:some]).backward()

    step(min(rows, 4096))
    return repeated(step, rows)


LIBRARIES = ("torch", "retrank")
EPOCH = [BATCH] * 9 + [80_000 - 9 * BATCH]
OURS, LIMIT = "retrank", "limit: 3 products and 2 exponentials in blocks"
WORKLOAD = Workload(
    "two_tower",
    "Two towers, in-batch softmax",
    [
        Case(
            "movielens",
            "An epoch of MovieLens-100K, vectors of 32, batches of 8,192, Adagrad",
            "examples",
            [
                Contender(OURS, ours, "ours", libraries=LIBRARIES),
                Contender("TFRS", tfrs, environment="tfrs", libraries=("tensorflow", "tensorflow_recommenders")),
                Contender("plain torch, whole matrix of scores", plain_torch),
                Contender(LIMIT, partial(limit, EPOCH, DIM), "limit"),
            ],
            [Goal(OURS, "TFRS", rate=3.0), Goal(OURS, "TFRS", memory_share=0.5)],
            note="TFRS looks up strings within its model, as its tutorial does; its training metrics are off.",
        ),
        Case(
            "large_batch",
            "Loss and gradients of one batch of 65,536, vectors of 64",
            "queries",
            [
                Contender(OURS, partial(loss_and_gradients, 65_536), "ours", libraries=LIBRARIES),
                Contender(
                    "TFRS",
                    loss_and_gradients,
                    left_out="not run: the matrix of scores alone has 17 GB, and more copies",
                ),
                Contender(LIMIT, partial(limit, [65_536], 64, share=8), "limit"),
            ],
            [Goal(OURS, LIMIT, rate=1 / 1.5), Goal(OURS, memory_bytes=2e9)],
            note="The limit is measured on an eighth of the queries, against all candidates.",
            warm_ups=0,
            memory_limit=12 * 2**30,
        ),
        Case(
            "scaling",
            "Loss and gradients of one batch as it grows, vectors of 64",
            "queries",
            [
                Contender(
                    f"{OURS}, {rows:,}", partial(loss_and_gradients, rows), "ours", libraries=LIBRARIES, size=rows
                )
                for rows in (2048, 8192, 32_768)
            ],
            grows="batch",
            repeats=3,
            memory_limit=12 * 2**30,
        ),
    ],
    prepare=data.save_movielens,
)
