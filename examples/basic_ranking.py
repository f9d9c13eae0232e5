"""Predict MovieLens ratings: the tutorial's setting of TensorFlow Recommenders, and the one we recommend.

Run:  python examples/basic_ranking.py --seeds 3        (about two minutes)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42).
The recommended setting was tuned on a tenth of the training rows, never on the test rows.
"""

import argparse
import statistics

import polars as pl
import torch
from torch import nn

import retrank as rr

SIDE = ["age", "gender", "occupation", "year", "genres"]


class TutorialModel(rr.Model):
    """Two embeddings side by side, and an MLP on top."""

    def __init__(self, space: rr.FeatureSpace, dim: int = 32) -> None:
        super().__init__()
        self.user = rr.EmbeddingTable(space.schema["user_id"], dim)
        self.movie = rr.EmbeddingTable(space.schema["movie_title"], dim)
        self.score = rr.layers.MLP(2 * dim, [256, 64, 1])
        self.task = rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])

    def forward(self, batch: rr.Batch) -> torch.Tensor:
        return self.score(torch.cat([self.user(batch["user_id"]), self.movie(batch["movie_title"])], dim=1))[:, 0]

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        return self.task(labels=batch["rating"], predictions=self(batch))


class RecommendedModel(rr.Model):
    """Biases and a dot product carry most of a rating; a small MLP adds what the features know."""

    def __init__(self, space: rr.FeatureSpace, mean: float) -> None:
        super().__init__()
        user, movie = space.schema["user_id"], space.schema["movie_id"]
        self.mean = mean
        self.user_bias = rr.EmbeddingTable(user, 1, scale=0.0, l2=0.01)
        self.movie_bias = rr.EmbeddingTable(movie, 1, scale=0.0, l2=0.01)
        self.user = rr.EmbeddingTable(user, 64, l2=0.12)
        self.movie = rr.EmbeddingTable(movie, 64, l2=0.12)
        self.features = rr.EmbeddingCollection(
            {
                "user_id": rr.EmbeddingTable(user, 16, l2=0.1),
                "movie_id": rr.EmbeddingTable(movie, 16, l2=0.1),
                **{name: rr.EmbeddingTable(space.schema[name], 8, l2=0.11) for name in SIDE},
            }
        )
        self.mlp = rr.layers.MLP(2 * 16 + 8 * len(SIDE), [64, 1], dropout=0.5)
        self.task = rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])

    def forward(self, batch: rr.Batch) -> torch.Tensor:
        user, movie = batch["user_id"], batch["movie_id"]
        bias = self.mean + self.user_bias(user)[:, 0] + self.movie_bias(movie)[:, 0]
        features = torch.cat(list(self.features(batch).values()), dim=1)
        rating = bias + (self.user(user) * self.movie(movie)).sum(dim=1) + self.mlp(features)[:, 0]
        return rating if self.training else rating.clamp(1, 5)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        return self.task(labels=batch["rating"], predictions=self(batch))


def tutorial(train: pl.DataFrame, test: pl.DataFrame, seed: int, epochs: int = 3) -> float:
    """Train as the tutorial does and return the test RMSE."""
    space = rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "movie_title": rr.features.Categorical(),
            "rating": rr.features.Passthrough(),
        }
    ).fit(train)
    rr.core.seed_everything(seed)
    model = TutorialModel(space)
    batches = space.loader(train, batch_size=8192, shuffle=True, seed=seed)
    model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=epochs, seed=seed, progress=False)
    return model.evaluate(space.loader(test, batch_size=4096))["rmse"]


def recommended(train: pl.DataFrame, test: pl.DataFrame, seed: int, epochs: int = 12) -> float:
    """Train as we recommend and return the test RMSE."""
    space = rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "movie_id": rr.features.Categorical(),
            "age": rr.features.Bucketized(boundaries=[18, 25, 30, 35, 40, 45, 50, 56]),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
            "genres": rr.features.CategoricalList(),
            "rating": rr.features.Passthrough(),
        }
    ).fit(train)
    rr.core.seed_everything(seed)
    model = RecommendedModel(space, mean=float(train["rating"].mean()))
    tables = [module.weight for module in model.modules() if isinstance(module, rr.EmbeddingTable)]
    optimizer = rr.optim.Composite(
        [
            (rr.optim.Adagrad(lr=0.05, initial_accumulator=0.0), tables),
            (rr.optim.Adagrad(lr=0.01, initial_accumulator=0.0), list(model.mlp.parameters())),
        ]
    )
    batches = space.loader(train, batch_size=512, shuffle=True, seed=seed)
    model.fit(batches, optimizer=optimizer, epochs=epochs, seed=seed, progress=False)
    return model.evaluate(space.loader(test, batch_size=4096))["rmse"]


def without_learning(train: pl.DataFrame, test: pl.DataFrame) -> dict[str, float]:
    """Return the test RMSE of the mean rating alone, and with a bias of the user and the movie added."""
    mean = train["rating"].mean()
    rows = train.with_columns(user=pl.lit(0.0), movie=pl.lit(0.0))
    for _ in range(10):
        for bias, other, key in (("movie", "user", "movie_id"), ("user", "movie", "user_id")):
            rest = (pl.col("rating") - mean - pl.col(other)).sum().over(key)
            rows = rows.with_columns((rest / (pl.len().over(key) + 5)).alias(bias))  # few ratings, small bias
    users, movies = (rows.group_by(f"{name}_id").agg(pl.col(name).first()) for name in ("user", "movie"))
    known = test.join(users, on="user_id", how="left").join(movies, on="movie_id", how="left")
    with_biases = (mean + pl.col("user").fill_null(0) + pl.col("movie").fill_null(0)).clip(1, 5)
    guesses = {"mean rating": pl.lit(mean), "mean, user bias and movie bias": with_biases}
    return {
        name: known.select((guess - pl.col("rating")).pow(2).mean().sqrt()).item() for name, guess in guesses.items()
    }


def main(seeds: int, epochs: int | None = None) -> None:
    """Print a Markdown table; without `epochs` each setting has its own number."""
    given = {} if epochs is None else {"epochs": epochs}
    movielens = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(movielens.interactions, test_size=20_000, seed=42)
    print("| setting | test RMSE, mean ± std | each seed |\n|---|---|---|")
    for name, value in without_learning(train, test).items():
        print(f"| {name} | {value:.4f} | |")
    for name, run in {"tutorial": tutorial, "recommended": recommended}.items():
        values = [run(train, test, seed, **given) for seed in range(seeds)]
        each = ", ".join(f"{value:.4f}" for value in values)
        print(f"| {name} | {statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f} | {each} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
