"""Predict MovieLens ratings by deep and cross networks: the tutorial of TensorFlow Recommenders, and what we recommend.

Run:  python examples/dcn.py --seeds 3        (about three minutes; --plot FILE draws the last table)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42).
The recommended settings were chosen on a tenth of the training rows, never on the test rows.
"""

import argparse
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from basic_ranking import without_learning
from torch import nn

import retrank as rr
from retrank.layers import DCN, MLP, Concatenate, Cross, Parallel

TUTORIAL = ["movie_id", "user_id", "zip_code", "occupation", "gender", "age"]
RECOMMENDED = ["movie_id", "user_id", "occupation", "gender", "age", "year", "genres"]
MEASURED = {"DCN": (0.9454, 0.0023), "DCN, rank 20": (0.9473, None), "DNN": (0.9489, None)}  # the same split


def feature_space(rows: pl.DataFrame) -> rr.FeatureSpace:
    """Say what each column is, and learn the vocabularies."""
    return rr.FeatureSpace(
        {
            **{name: rr.features.Categorical() for name in ("movie_id", "user_id", "zip_code", "occupation", "gender")},
            "age": rr.features.Bucketized(boundaries=[18, 25, 35, 45, 50, 56]),
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
            "genres": rr.features.CategoricalList(),
            "rating": rr.features.Passthrough(),
        }
    ).fit(rows)


def rating_task() -> rr.tasks.Ranking:
    """Squared error; for the metric, no prediction leaves the scale of 1 to 5 stars."""
    rmse = rr.metrics.RootMeanSquaredError()
    return rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rmse], prediction_transform=nn.Hardtanh(1, 5))


def tutorial(space: rr.FeatureSpace, cross: Cross | None, layers: list[int]) -> rr.models.Ranking:
    """Six features side by side, crossed or not, then an MLP."""
    tables = {name: rr.EmbeddingTable(space.schema[name], 32) for name in TUTORIAL}
    return rr.models.Ranking(
        rr.EmbeddingCollection(tables),
        feature_interaction=Concatenate() if cross is None else nn.Sequential(Concatenate(), cross),
        top_stack=MLP(None, [*layers, 1]),
        task=rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]),
        label="rating",
        id_l2=0.0,  # the tutorial has no penalties
    )


def recommended(space: rr.FeatureSpace, mean: float, *, biases: bool) -> rr.models.Ranking:
    """Two crosses beside a small MLP, penalised vectors, long ones for users and movies; starts at the mean rating."""
    ids = ("user_id", "movie_id")
    tables = {name: rr.EmbeddingTable(space.schema[name], 64 if name in ids else 8, l2=0.1) for name in RECOMMENDED}
    weights = {name: rr.EmbeddingTable(space.schema[name], 1, scale=0.0, l2=0.01) for name in ids}
    deep = MLP(None, [64], final_activation=nn.ReLU(), dropout=0.5)
    model = rr.models.Ranking(
        rr.EmbeddingCollection(tables),
        feature_interaction=Parallel(
            [
                nn.Sequential(Concatenate(), DCN(num_layers=2, projection_dim=None)),
                nn.Sequential(Concatenate(), deep),
            ]
        ),
        top_stack=(top := MLP(None, [1])),
        task=rating_task(),
        label="rating",
        linear=rr.EmbeddingCollection(weights) if biases else None,
    )
    nn.init.constant_(top.linears[0].bias, mean)
    return model


MODELS: dict[str, Callable[[rr.FeatureSpace, float], rr.models.Ranking]] = {
    "DCN": lambda space, _: tutorial(space, Cross(), [192, 192]),
    "DCN, rank 20": lambda space, _: tutorial(space, Cross(projection_dim=20), [192, 192]),
    "DNN": lambda space, _: tutorial(space, None, [192, 192, 192]),
    "DCN-v2, recommended": lambda space, mean: recommended(space, mean, biases=False),
    "DCN-v2 and biases, recommended": lambda space, mean: recommended(space, mean, biases=True),
}


def train_tutorial(
    model: rr.models.Ranking, space: rr.FeatureSpace, rows: pl.DataFrame, seed: int, epochs: int
) -> None:
    """One Adam for all, at a large learning rate."""
    batches = space.loader(rows, batch_size=8192, shuffle=True, seed=seed)
    model.fit(batches, optimizer=rr.optim.LazyAdam(lr=0.01), epochs=epochs, seed=seed, progress=False)


def train_recommended(
    model: rr.models.Ranking, space: rr.FeatureSpace, rows: pl.DataFrame, seed: int, epochs: int
) -> None:
    """One optimizer for the tables and one for the rest, with learning rates that fall to zero."""
    optimizer = rr.optim.Composite(
        [
            (rr.optim.Adagrad(lr=0.1, initial_accumulator=0.0), model.embedding_parameters),
            (rr.optim.Adagrad(lr=0.01, initial_accumulator=0.0), model.dense_parameters),
        ]
    )
    batches = space.loader(rows, batch_size=512, shuffle=True, seed=seed)
    schedule = rr.training.linear_decay(epochs * len(batches))
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)


def run(
    name: str, train: pl.DataFrame, test: pl.DataFrame, seed: int, epochs: int | None = None
) -> tuple[rr.models.Ranking, float]:
    """Train a model of `MODELS`, and return it with its test RMSE."""
    space = feature_space(train)
    rr.core.seed_everything(seed)
    model = MODELS[name](space, float(train["rating"].mean()))
    learn = train_recommended if "recommended" in name else train_tutorial
    learn(model, space, train, seed, epochs or 8)
    return model, model.evaluate(space.loader(test, batch_size=4096))["rmse"]


def block_norms(model: rr.models.Ranking) -> tuple[list[str], np.ndarray]:
    """Return the features in order, and the Frobenius norm of the part of the cross matrix between each two."""
    cross = next(module for module in model.modules() if isinstance(module, Cross))
    names = sorted(model.embeddings.features)
    edges = np.cumsum([0, *(model.embeddings.dims[name] for name in names)])
    matrix = cross.kernel.detach() if cross.down is None else cross.kernel.detach() @ cross.down.detach()
    blocks = [[matrix[a:b, c:d].norm().item() for c, d in pairwise(edges)] for a, b in pairwise(edges)]
    return names, np.array(blocks)


def plot(names: list[str], norms: np.ndarray, file: Path) -> None:
    """Draw the norms as a map of squares; needs the extra `plot`."""
    figure = rr.core.optional("matplotlib.figure", extra="plot").Figure(layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(norms, cmap="Blues"))
    axes.set_xticks(range(len(names)), names, rotation=45, ha="left")
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    figure.savefig(file)


def main(
    seeds: int, epochs: int | None = None, models: tuple[str, ...] = tuple(MODELS), file: Path | None = None
) -> None:
    """Print two Markdown tables: the test RMSE of every model, and the block norms of the tutorial's cross."""
    train, test = rr.data.random_split(rr.datasets.movielens_100k().interactions, test_size=20_000, seed=42)
    print("| model | test RMSE, mean ± std | each seed |\n|---|---|---|")
    for name, value in without_learning(train, test).items():
        print(f"| {name} | {value:.4f} | |")
    for name, (value, spread) in MEASURED.items():
        shown = f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
        print(f"| TensorFlow Recommenders, {name}, measured on the same data | {shown} | |")
    first = {}
    for name in models:
        runs = [run(name, train, test, seed, epochs) for seed in range(seeds)]
        first[name], values = runs[0][0], [value for _, value in runs]
        each = ", ".join(f"{value:.4f}" for value in values)
        print(f"| {name} | {statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f} | {each} |", flush=True)
    if "DCN" in first:
        names, norms = block_norms(first["DCN"])
        print(f"\n| multiplied with | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
        for name, row in zip(names, norms, strict=True):
            print(f"| {name} | {' | '.join(f'{norm:.2f}' for norm in row)} |")
        if file is not None:
            plot(names, norms, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--plot", type=Path, default=None, metavar="FILE")
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs, tuple(arguments.models), arguments.plot)
