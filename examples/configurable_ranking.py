"""Predict which movies a user likes, by every interaction of features that `rr.models.Ranking` can be built from.

Run:  python examples/configurable_ranking.py --seeds 3        (about three minutes)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42); 4 stars and 5 are a
like. All models have the same features, lengths of vectors, penalties, optimizers and epochs. They were chosen for DLRM
and DCN-v2 on a tenth of the training rows, never on the test rows.
"""

import argparse
import statistics
from collections.abc import Callable

import polars as pl
import torch
from torch import nn

import retrank as rr
from retrank import models
from retrank.layers import MLP

IDS = ["user_id", "movie_id", "occupation", "gender", "year", "genres"]
DIM = 32


def liked(ratings: pl.DataFrame) -> pl.DataFrame:
    """Add the label."""
    return ratings.with_columns(like=(pl.col("rating") >= 4).cast(pl.Float32))


def feature_space(rows: pl.DataFrame) -> rr.FeatureSpace:
    """Ids, and a number."""
    return rr.FeatureSpace(
        {
            **{name: rr.features.Categorical() for name in ("user_id", "movie_id", "occupation", "gender")},
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
            "genres": rr.features.CategoricalList(),
            "age": rr.features.Normalized(),
            "like": rr.features.Passthrough(),
        }
    ).fit(rows)


def embeddings(space: rr.FeatureSpace, dim: int = DIM) -> rr.EmbeddingCollection:
    """A penalised vector for every id; a weight, at first 0, if dim is 1."""
    scale, l2 = (0.0, 0.01) if dim == 1 else (0.05, 0.03)
    return rr.EmbeddingCollection(
        {name: rr.EmbeddingTable(space.schema[name], dim, scale=scale, l2=l2) for name in IDS}
    )


def common() -> dict:
    """What all models share."""
    return {
        "dense_features": ["age"],
        "label": "like",
        "id_l2": 0.0,  # the tables have penalties of their own
        "task": rr.tasks.Ranking(metrics=[rr.metrics.AUC(), rr.metrics.LogLoss()]),
    }


HIDDEN = {"layers": [64], "dropout": 0.5}
MODELS: dict[str, Callable[[rr.FeatureSpace], models.Ranking]] = {
    "DLRM": lambda space: models.Ranking(
        embeddings(space),
        bottom_stack=MLP(None, [DIM], final_activation=nn.ReLU()),
        top_stack=MLP(None, [64, 1], dropout=0.5),
        **common(),
    ),
    "DCN-v2, stacked": lambda space: models.dcn_v2(embeddings(space), num_crosses=2, **HIDDEN, **common()),
    "DCN-v2, parallel": lambda space: models.dcn_v2(
        embeddings(space), structure="parallel", num_crosses=2, **HIDDEN, **common()
    ),
    "DeepFM": lambda space: models.deepfm(embeddings(space), linear_l2=0.0, **HIDDEN, **common()),
    "xDeepFM": lambda space: models.xdeepfm(
        embeddings(space), cross_units=[16, 16], linear_l2=0.0, **HIDDEN, **common()
    ),
    "Wide & Deep": lambda space: models.wide_and_deep(embeddings(space), embeddings(space, 1), **HIDDEN, **common()),
    "AutoInt": lambda space: models.autoint(
        embeddings(space), attention=rr.layers.FieldAttention(num_layers=2), **common()
    ),
    "FinalMLP": lambda space: models.finalmlp(
        embeddings(space),
        first_layers=[64],
        second_layers=[64],
        first_context=["user_id"],
        second_context=["movie_id"],
        dropout=0.5,
        **common(),
    ),
}


def run(name: str, train: pl.DataFrame, test: pl.DataFrame, seed: int, epochs: int = 4) -> dict[str, float]:
    """Train a model of `MODELS` and measure it on the test rows."""
    space = feature_space(train)
    rr.core.seed_everything(seed)
    model = MODELS[name](space)
    optimizer = rr.optim.Composite(
        [
            (rr.optim.Adagrad(lr=0.1, initial_accumulator=0.0), model.embedding_parameters),
            (rr.optim.Adagrad(lr=0.01, initial_accumulator=0.0), model.dense_parameters),
        ]
    )
    batches = space.loader(train, batch_size=1024, shuffle=True, seed=seed)
    schedule = rr.training.linear_decay(epochs * len(batches))
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return model.evaluate(space.loader(test, batch_size=4096))


def by_counting(train: pl.DataFrame, test: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Measure guesses from damped rates of likes: everyone's, the movie's, and the odds of movie and user together."""
    mean = train["like"].mean()

    def log_odds(key: str) -> pl.Series:
        likes = (pl.col("like").sum() + 5 * mean) / (pl.len() + 5)  # few ratings, near the mean
        rates = train.group_by(key).agg(rate=likes)
        rate = test.join(rates, on=key, how="left", maintain_order="left")["rate"].fill_null(mean)
        return (rate / (1 - rate)).log()

    everyone = pl.Series([mean / (1 - mean)]).log().first() + pl.zeros(len(test), eager=True)
    movie, user = log_odds("movie_id"), log_odds("user_id")
    guesses = {"rate of likes": everyone, "the movie's": movie, "the movie's and the user's": movie + user - everyone}
    results = {}
    for name, guess in guesses.items():
        measures = (rr.metrics.AUC(), rr.metrics.LogLoss())
        for measure in measures:
            measure.update(torch.tensor(guess.to_numpy()).sigmoid(), test["like"].to_torch())
        results[name] = {measure.name: measure.compute().item() for measure in measures}
    return results


def main(seeds: int, epochs: int | None = None, names: tuple[str, ...] = tuple(MODELS)) -> None:
    """Print a Markdown table."""
    given = {} if epochs is None else {"epochs": epochs}
    interactions = rr.datasets.movielens_100k().interactions
    train, test = (liked(part) for part in rr.data.random_split(interactions, test_size=20_000, seed=42))
    print("| model | AUC, mean ± std | log loss, mean ± std | AUC of each seed |\n|---|---|---|---|")
    for name, values in by_counting(train, test).items():
        print(f"| {name} | {values['auc']:.4f} | {values['log_loss']:.4f} | |")
    for name in names:
        runs = [run(name, train, test, seed, **given) for seed in range(seeds)]
        columns = [[results[measure] for results in runs] for measure in ("auc", "log_loss")]
        spreads = [f"{statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f}" for values in columns]
        each = ", ".join(f"{value:.4f}" for value in columns[0])
        print(f"| {name} | {' | '.join(spreads)} | {each} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs, tuple(arguments.models))
