"""Two towers of many features that learn ratings: the deep recommender of Keras-RS."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.environments import FOLDER
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated
from benchmarks.workloads.two_tower import keras_epochs

DIM, BATCH, LAYERS, RATE = 32, 1000, [64, 32], 0.05
QUERY = ["user_id", "age", "gender", "occupation", "gender_x_age"]
CANDIDATE = ["movie_id", "title", "genres"]
LISTS = {"title": 16, "genres": 6}
IDS = FOLDER / "data" / "deep_recommender.npz"


def feature_space() -> tuple[Any, Any]:
    """Return a fitted space and its table; lists of genres are text here, so that both are lists of tokens."""
    import polars as pl

    import retrank as rr
    from benchmarks.workloads.ours import table

    train = table(data.movielens()[0]).with_columns(pl.col("rating") / 5)
    space = rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=10),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "movie_id": rr.features.Categorical(),
            **{name: rr.features.Text(max_length=length) for name, length in LISTS.items()},
            "rating": rr.features.Passthrough(),
        },
        crosses=[rr.features.Cross("gender", "age", bins=20)],
    )
    return space.fit(train), train


def save_ids() -> None:
    """Write the ids that our features make, padded, for the peer."""
    data.save_movielens()
    if IDS.exists():
        return
    space, train = feature_space()
    batch = space.transform(train)
    arrays = {
        name: (batch[name].to_padded(LISTS[name]) if name in LISTS else batch[name]).numpy() for name in batch.names
    }
    sizes = {f"num_{name}": np.array(column.num_ids) for name, column in space.schema.items() if column.num_ids}
    np.savez(IDS, **arrays, **sizes)


def ours(parts: int = 1) -> Job:
    import torch
    from torch import nn

    import retrank as rr
    from benchmarks.workloads.ours import epochs

    space, train = feature_space()
    train = train[: len(train) // parts]

    class DeepRecommender(rr.Model):
        def __init__(self) -> None:
            super().__init__()
            self.query = rr.models.Tower(space, QUERY, layers=LAYERS, dim=DIM)
            self.candidate = rr.models.Tower(space, CANDIDATE, layers=LAYERS, dim=DIM)
            self.task = rr.tasks.Ranking(loss=nn.MSELoss())

        def forward(self, batch: rr.Batch) -> torch.Tensor:
            return (self.query(batch) * self.candidate(batch)).sum(dim=1)

        def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:  # noqa: ARG002
            return self.task(labels=batch["rating"], predictions=self(batch))

    return epochs(DeepRecommender(), space.loader(train, BATCH), rr.optim.Adagrad(lr=RATE), len(train))


def plain_torch(*, compiled: bool) -> Job:
    import torch
    from torch import nn

    with np.load(IDS) as stored:
        arrays = {name: torch.from_numpy(column) for name, column in stored.items()}
    sizes = {name: int(arrays.pop(f"num_{name}")) for name in [*QUERY, *CANDIDATE]}
    labels = arrays.pop("rating").float()

    class Tower(nn.Module):
        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names
            self.tables = nn.ModuleList(
                nn.EmbeddingBag(sizes[name], DIM, mode="mean", padding_idx=0)
                if name in LISTS
                else nn.Embedding(sizes[name], DIM)
                for name in names
            )
            widths = [len(names) * DIM, *LAYERS]
            dense = [layer for before, after in pairwise(widths) for layer in (nn.Linear(before, after), nn.ReLU())]
            self.dense = nn.Sequential(*dense[:-1])

        def forward(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
            vectors = [table(rows[name]) for name, table in zip(self.names, self.tables, strict=True)]
            mixed: torch.Tensor = self.dense(torch.cat(vectors, dim=1))
            return mixed

    query, candidate = Tower(QUERY), Tower(CANDIDATE)
    parameters = [*query.parameters(), *candidate.parameters()]
    optimizer = torch.optim.Adagrad(parameters, lr=RATE, initial_accumulator_value=0.1, fused=True)

    def loss_of(rows: dict[str, torch.Tensor], ratings: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss((query(rows) * candidate(rows)).sum(dim=1), ratings)

    loss = torch.compile(loss_of) if compiled else loss_of

    def epoch() -> None:
        for start in range(0, len(labels), BATCH):
            rows = {name: column[start : start + BATCH] for name, column in arrays.items()}
            optimizer.zero_grad()
            loss(rows, labels[start : start + BATCH]).backward()
            optimizer.step()

    return repeated(epoch, len(labels))


def keras_rs() -> Job:
    import keras
    import keras_rs as library
    import tensorflow as tf

    with np.load(IDS) as stored:
        arrays = {name: column.astype(np.float32 if name == "rating" else np.int32) for name, column in stored.items()}
    sizes = {name: int(arrays.pop(f"num_{name}")) for name in [*QUERY, *CANDIDATE]}
    labels = arrays.pop("rating")
    layers, ops = keras.layers, keras.ops

    def tower(names: list[str]) -> Any:
        inputs = {
            name: keras.Input((LISTS[name],) if name in LISTS else (), dtype="int32", name=name) for name in names
        }
        vectors = []
        for name in names:
            embedded = layers.Embedding(sizes[name], DIM, mask_zero=name in LISTS)(inputs[name])
            vectors.append(layers.GlobalAveragePooling1D()(embedded) if name in LISTS else embedded)
        hidden = layers.Concatenate()(vectors)
        for units in LAYERS[:-1]:
            hidden = layers.Dense(units, activation="relu")(hidden)
        return keras.Model(inputs, layers.Dense(LAYERS[-1])(hidden))

    class Recommender(keras.Model):  # type: ignore[misc]
        """Serves and measures as the example does: a retrieval layer and a metric are part of the model."""

        def __init__(self) -> None:
            super().__init__()
            self.query, self.candidate = tower(QUERY), tower(CANDIDATE)
            self.retrieval = library.layers.BruteForceRetrieval(k=100, return_scores=False)
            _, first = np.unique(arrays["movie_id"], return_index=True)
            catalogue = {name: arrays[name][first] for name in CANDIDATE}
            self.retrieval.update_candidates(self.candidate.predict(catalogue, verbose=0))
            self.error = keras.losses.MeanSquaredError()
            self.accuracy = keras.metrics.SparseTopKCategoricalAccuracy(k=100, from_sorted_ids=True)

        def call(self, rows: Any, training: bool = False) -> Any:
            outputs = {
                "query": self.query({name: rows[name] for name in QUERY}),
                "candidate": self.candidate({name: rows[name] for name in CANDIDATE}),
            }
            if not training:
                outputs["found"] = self.retrieval(outputs["query"])
            return outputs

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool = True) -> Any:  # noqa: ARG002
            scores = ops.sum(y_pred["query"] * y_pred["candidate"], axis=1, keepdims=True)
            return self.error(y, scores, sample_weight)

        def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ARG002
            results = self.get_metrics_result()
            results.pop(self.accuracy.name)
            return results

    model = Recommender()
    model.compile(optimizer=keras.optimizers.Adagrad(RATE))
    rows = tf.data.Dataset.from_tensor_slices((arrays, labels[:, None])).batch(BATCH).cache()
    return keras_epochs(keras, model, len(labels), rows)


def limit() -> Job:
    from benchmarks.limits import products

    widths = [[len(names) * DIM, *LAYERS] for names in (QUERY, CANDIDATE)]
    shapes = [(BATCH, a, b) for tower in widths for a, b in pairwise(tower)]
    return products(shapes, 80_000, 80)


OURS, PEER = "retrank", "Keras-RS on JAX, its example"
WORKLOAD = Workload(
    "deep_recommender",
    "Deep recommender",
    [
        Case(
            "movielens",
            "An epoch of MovieLens-100K, towers of 64 and 32 on eight features, batches of 1,000, Adagrad",
            "examples",
            [
                Contender(OURS, ours, "ours", libraries=("torch", "retrank")),
                Contender(PEER, keras_rs, environment="keras-rs", libraries=("jax", "keras", "keras_rs", "tensorflow")),
                Contender("plain torch, dense gradients", partial(plain_torch, compiled=False), libraries=("torch",)),
                Contender("the same, torch.compile", partial(plain_torch, compiled=True), libraries=("torch",)),
                Contender("limit: matrix products of the towers", limit, "limit"),
            ],
            [Goal(OURS, PEER, rate=2.0)],
            note=(
                "The squared error of ratings. All are given ids, the peers lists padded to 16 and 6. At 1,000 rows a "
                "step, what Python does around the products takes longer than they do. JAX compiles the whole step; "
                "torch.compile leaves the calls of the backward pass and the optimizer."
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
                for parts in (16, 4, 1)
            ],
            grows="rows",
            repeats=3,
        ),
    ],
    prepare=save_ids,
)
