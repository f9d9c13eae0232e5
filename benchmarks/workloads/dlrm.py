"""DLRM: 26 tables, 13 numbers, their products pair by pair, two MLPs; one optimizer step after another."""

from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated
from benchmarks.workloads.two_tower import keras_epochs

TABLES, DIM, DENSE, BATCH, STEPS, RATE = 26, 32, 13, 8192, 5, 0.01
BOTTOM, TOP = [512, 256, 32], [512, 256, 1]
NAMES = [f"c{number:02d}" for number in range(TABLES)]
PAIRS = TABLES * (TABLES + 1) // 2
ROWS = BATCH * STEPS


def ours(table_rows: int) -> Job:
    import torch
    from torch import nn

    import retrank as rr
    from benchmarks.workloads.ours import epochs

    numbers, ids, labels = map(torch.from_numpy, data.clicks(ROWS, TABLES, table_rows))
    model = rr.models.Ranking(
        rr.EmbeddingCollection({name: rr.EmbeddingTable(table_rows + 2, DIM) for name in NAMES}),
        bottom_stack=rr.layers.MLP(DENSE, BOTTOM, final_activation=nn.ReLU()),
        feature_interaction=rr.layers.DotInteraction(),
        top_stack=rr.layers.MLP(DIM + PAIRS, TOP),
        task=rr.tasks.Ranking(),
        id_l2=0.0,  # the peers have no penalty
        dense_features=[rr.core.ColumnSchema("numbers", "number", width=DENSE)],
    )
    ids = ids.long() + 2
    columns = dict(zip(NAMES, (column.contiguous() for column in ids.unbind(1)), strict=True))
    batches = rr.data.Loader(rr.Batch({**columns, "numbers": numbers, "label": labels}), BATCH)
    return epochs(model, batches, rr.optim.Adagrad(lr=RATE), ROWS)


def tfrs(table_rows: int) -> Job:
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    numbers, ids, labels = data.clicks(ROWS, TABLES, table_rows)

    class Tables(tf.keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tables = {name: tf.keras.layers.Embedding(table_rows, DIM) for name in NAMES}

        def call(self, features: Any) -> Any:
            return {name: table(features[name]) for name, table in self.tables.items()}

    mlp = tfrs.layers.blocks.MLP
    model = tfrs.experimental.models.Ranking(
        Tables(),
        bottom_stack=mlp(units=BOTTOM, final_activation="relu"),
        feature_interaction=tfrs.layers.feature_interaction.DotInteraction(),
        top_stack=mlp(units=TOP, final_activation="sigmoid"),
        task=tfrs.tasks.Ranking(loss=tf.keras.losses.BinaryCrossentropy()),
    )
    model.compile(optimizer=tf.keras.optimizers.Adagrad(RATE))
    features = {"dense_features": numbers, "sparse_features": dict(zip(NAMES, ids.T, strict=True))}
    rows = tf.data.Dataset.from_tensor_slices((features, labels[:, None]))
    return keras_epochs(tf.keras, model, ROWS, rows.batch(BATCH).cache().prefetch(2))


def keras_rs(table_rows: int) -> Job:
    import keras
    import keras_rs
    import numpy as np

    numbers, ids, labels = data.clicks(ROWS, TABLES, table_rows)
    layers = keras.layers
    dense = keras.Input((DENSE,))
    keys = [keras.Input((), dtype="int32") for _ in NAMES]
    bottom = keras.Sequential([layers.Dense(units, activation="relu") for units in BOTTOM])(dense)
    vectors = [layers.Embedding(table_rows, DIM)(key) for key in keys]
    hidden = layers.Concatenate()([bottom, keras_rs.layers.DotInteraction()([*vectors, bottom])])
    for units in TOP[:-1]:
        hidden = layers.Dense(units, activation="relu")(hidden)
    model = keras.Model([dense, *keys], layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(optimizer=keras.optimizers.Adagrad(RATE), loss="binary_crossentropy")
    inputs = [numbers, *(np.ascontiguousarray(column) for column in ids.T)]
    return keras_epochs(keras, model, ROWS, inputs, labels[:, None], batch_size=BATCH, shuffle=False)


def plain_torch(table_rows: int) -> Job:
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    numbers, ids, labels = map(torch.from_numpy, data.clicks(ROWS, TABLES, table_rows))
    ids = ids.long()

    def mlp(width: int, units: list[int]) -> list[nn.Module]:
        widths = [width, *units]
        return [m for a, b in zip(widths, units, strict=False) for m in (nn.Linear(a, b), nn.ReLU())]

    class DLRM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.EmbeddingBag(table_rows, DIM, mode="sum", sparse=True) for _ in NAMES)
            self.bottom = nn.Sequential(*mlp(DENSE, BOTTOM))
            self.top = nn.Sequential(*mlp(DIM + PAIRS, TOP)[:-1])
            self.pairs = torch.tril_indices(TABLES + 1, TABLES + 1, -1)

        def forward(self, numbers: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            dense = self.bottom(numbers)
            vectors = [table(ids[:, number : number + 1]) for number, table in enumerate(self.tables)]
            fields = torch.stack([*vectors, dense], dim=1)
            products = (fields @ fields.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
            return self.top(torch.cat([dense, products], dim=1))[:, 0]

    model = DLRM()
    for table in model.tables:
        nn.init.uniform_(table.weight, -0.05, 0.05)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=RATE, initial_accumulator_value=0.1, eps=1e-7)

    def epoch() -> None:
        for some_numbers, some_ids, some_labels in zip(
            numbers.split(BATCH), ids.split(BATCH), labels.split(BATCH), strict=True
        ):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(some_numbers, some_ids), some_labels).backward()
            optimizer.step()

    return repeated(epoch, ROWS)


def limit() -> Job:
    from benchmarks.limits import products

    bottom, top = [DENSE, *BOTTOM], [DIM + PAIRS, *TOP]
    shapes = [(BATCH, a, b) for widths in (bottom, top) for a, b in pairwise(widths)]
    return products(shapes, ROWS, STEPS)


def row_limit(table_rows: int) -> Job:
    """Gather what a step must: each row's vector and accumulator, read, and written back at the speed of reading."""
    import torch

    from benchmarks.limits import row_reads

    _, ids, _ = data.clicks(BATCH, TABLES, table_rows)
    rows = (torch.from_numpy(ids).long() + torch.arange(TABLES) * table_rows).T.reshape(-1)
    return row_reads(torch.zeros(TABLES * table_rows, DIM), rows, ROWS, repeats=4 * STEPS)


OURS, LIBRARIES = "retrank", ("torch", "retrank")
TORCH, LIMIT = "plain torch, sparse gradients", "limit: matrix products of the MLPs"
SMALL = "retrank, tables of 100,000 rows"
SKIPPED = "not run: weights, accumulators and dense gradients need about 10 GB, twice that while they are updated"
WORKLOAD = Workload(
    "dlrm",
    "DLRM",
    [
        Case(
            "100k",
            "Steps with 26 tables of 100,000 x 32, batches of 8,192, Adagrad",
            "examples",
            [
                Contender(OURS, partial(ours, 100_000), "ours", libraries=LIBRARIES),
                Contender(
                    "TFRS",
                    partial(tfrs, 100_000),
                    environment="tfrs",
                    libraries=("tensorflow", "tensorflow_recommenders"),
                ),
                Contender(
                    "Keras-RS on JAX",
                    partial(keras_rs, 100_000),
                    environment="keras-rs",
                    libraries=("jax", "keras", "keras_rs"),
                ),
                Contender(TORCH, partial(plain_torch, 100_000)),
                Contender(LIMIT, limit, "limit"),
                Contender("limit: random rows, read four times", partial(row_limit, 100_000), "limit"),
            ],
            [Goal(OURS, "TFRS", rate=2.0), Goal(OURS, TORCH, rate=1.3), Goal(OURS, LIMIT, rate=0.7)],
            note=f"A repeat is {STEPS} steps. No contender shuffles or computes metrics.",
        ),
        Case(
            "1m",
            "The same with tables of 1,000,000 x 32, 3.3 GB of weights",
            "examples",
            [
                Contender(OURS, partial(ours, 1_000_000), "ours", libraries=LIBRARIES),
                Contender(SMALL, partial(ours, 100_000), "ours", libraries=LIBRARIES),
                Contender(TORCH, partial(plain_torch, 1_000_000)),
                Contender("TFRS", partial(tfrs, 1_000_000), left_out="not run: not enough memory beside the others"),
                Contender("Keras-RS on JAX", partial(keras_rs, 1_000_000), left_out=SKIPPED),
                Contender(LIMIT, limit, "limit"),
            ],
            [Goal(OURS, SMALL, rate=1 / 1.3)],
        ),
        Case(
            "scaling",
            "The same as the tables grow",
            "examples",
            [
                Contender(f"{OURS}, {rows:,}", partial(ours, rows), "ours", libraries=LIBRARIES, size=rows)
                for rows in (10_000, 100_000, 300_000)
            ],
            grows="rows of each table",
            repeats=3,
        ),
    ],
)
