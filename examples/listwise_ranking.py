"""Put a user's movies in order: the listwise tutorials of TensorFlow Recommenders and Keras-RS, and what we recommend.

Run:  python examples/listwise_ranking.py --seeds 3        (about four minutes)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42). Both tutorials train
on 50 lists of 5 rated movies of each user, and test on one list of each user with 5 test rows, all drawn from seed 42.
Measured: NDCG of the 831 test lists with gain 2**stars - 1, where the best order has 1. The recommended setting was
tuned on a tenth of the training rows, never on the test rows.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl
import torch
from torch import nn

import retrank as rr

SIZE = 5
USER = ["user_id", "age", "gender", "occupation"]
MOVIE = ["movie_id", "year", "genres"]
LOSSES = {"MSE": nn.MSELoss, "hinge": rr.losses.PairwiseHingeLoss, "ListMLE": rr.losses.ListMLELoss}


@dataclass(frozen=True)
class Tutorial:
    """How a tutorial trains, and what it reaches on the same lists, by loss; measured, one run each."""

    movie: str
    epochs: int
    batch_size: int
    label: Callable[[torch.Tensor], torch.Tensor]
    measured: dict[str, float]


TUTORIALS = {
    "TensorFlow Recommenders": Tutorial(
        "movie_title", 30, 8192, lambda stars: stars, {"MSE": 0.8993, "hinge": 0.8982, "ListMLE": 0.8985}
    ),
    "Keras-RS": Tutorial(
        "movie_id", 5, 1024, lambda stars: (stars - 1) / 4, {"MSE": 0.8754, "hinge": 0.8960, "ListMLE": 0.8965}
    ),
}


class TutorialModel(rr.Model):
    """Two embeddings side by side, and an MLP on top, for each movie of a list."""

    def __init__(self, space: rr.FeatureSpace, loss: nn.Module, dim: int = 32) -> None:
        super().__init__()
        self.user = rr.EmbeddingTable(space.schema["user_id"], dim)
        self.movie = rr.EmbeddingTable(space.schema["movie"], dim)
        self.score = rr.layers.MLP(2 * dim, [256, 64, 1])
        self.task = rr.tasks.Ranking(loss)

    def forward(self, batch: rr.Batch) -> torch.Tensor:
        movies = self.movie(batch["movie"])
        users = self.user(batch["user_id"])[:, None].expand_as(movies)
        return self.score(torch.cat([users, movies], dim=2))[:, :, 0]

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        return self.task(labels=batch["label"], predictions=self(batch))


class RecommendedModel(rr.Model):
    """Biases and a dot product carry most of a rating; a small MLP adds what the features know."""

    def __init__(self, space: rr.FeatureSpace, movies: rr.Batch, mean: float) -> None:
        super().__init__()
        user, movie = space.schema["user_id"], space.schema["movie_id"]
        self.movies, self.mean = movies, mean
        self.user_bias = rr.EmbeddingTable(user, 1, scale=0.0, l2=0.01)
        self.movie_bias = rr.EmbeddingTable(movie, 1, scale=0.0, l2=0.01)
        self.user = rr.EmbeddingTable(user, 64, l2=0.12)
        self.movie = rr.EmbeddingTable(movie, 64, l2=0.12)
        side = [name for name in (*USER, *MOVIE) if not name.endswith("_id")]
        self.features = rr.EmbeddingCollection(
            {
                "user_id": rr.EmbeddingTable(user, 16, l2=0.1),
                "movie_id": rr.EmbeddingTable(movie, 16, l2=0.1),
                **{name: rr.EmbeddingTable(space.schema[name], 8, l2=0.11) for name in side},
            }
        )
        self.mlp = rr.layers.MLP(2 * 16 + 8 * len(side), [64, 1], dropout=0.5)
        self.task = rr.tasks.Ranking(nn.MSELoss())

    def forward(self, batch: rr.Batch) -> torch.Tensor:
        rows = batch["movie_row"]  # (lists, movies of a list)
        lists = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1])
        pairs = batch.select(USER).take(lists).merge(self.movies.to(rows.device).take(rows.flatten()))
        user, movie = pairs["user_id"], pairs["movie_id"]
        bias = self.mean + self.user_bias(user)[:, 0] + self.movie_bias(movie)[:, 0]
        features = torch.cat(list(self.features(pairs).values()), dim=1)
        ratings = bias + (self.user(user) * self.movie(movie)).sum(dim=1) + self.mlp(features)[:, 0]
        return ratings.view_as(rows)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        return self.task(labels=batch["label"], predictions=self(batch))


def sampled(rows: pl.DataFrame, per_query: int) -> pl.DataFrame:
    """Draw lists of movies of each user with enough rows, as both tutorials do."""
    columns = ["user_id", "movie_id", "movie_title", "rating"]
    return rr.data.sample_lists(rows.select(columns), query="user_id", size=SIZE, per_query=per_query, seed=42)


def ndcg(scores: torch.Tensor, lists: pl.DataFrame) -> float:
    """Judge the order of each list by its stars."""
    metric = rr.metrics.NDCG()
    metric.update(scores, torch.tensor(lists["rating"].to_numpy()))
    return metric.compute().item()


def learn_tutorial(train: pl.DataFrame, test: pl.DataFrame, setting: Tutorial, loss: nn.Module) -> float:
    """Train on lists as a tutorial does, and return the NDCG of the test lists."""
    space = rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "movie": rr.features.CategoricalList(column=setting.movie),
            "stars": rr.features.Passthrough(column="rating"),
        }
    ).fit(train)

    def columns(lists: pl.DataFrame) -> rr.Batch:
        batch = space.transform(lists)
        return batch.merge({"movie": batch["movie"].to_padded(), "label": setting.label(batch["stars"])})

    rr.core.seed_everything(0)
    model = TutorialModel(space, loss)
    batches = rr.data.Loader(columns(train), setting.batch_size, shuffle=True)
    model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=setting.epochs, progress=False)
    return ndcg(model.predict(rr.data.Loader(columns(test), 4096)), test)


def learn_recommended(
    train: pl.DataFrame, test: pl.DataFrame, data: rr.datasets.MovieLens, seed: int, epochs: int
) -> float:
    """Train on every row of training, a list of one, and return the NDCG of the test lists."""
    space = rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Bucketized(boundaries=[18, 25, 30, 35, 40, 45, 50, 56]),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "movie_id": rr.features.Categorical(),
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
            "genres": rr.features.CategoricalList(),
        }
    ).fit(train)
    movies = space.catalogue(data.candidates, key="movie_id")

    def columns(table: pl.DataFrame) -> rr.Batch:
        users = table.select("user_id").join(data.queries, on="user_id", how="left", maintain_order="left")
        row = movies.rows(table["movie_id"].explode()).view(len(table), -1)
        label = torch.tensor(table["rating"].to_numpy()).view(row.shape)
        return space.transform(users, USER).merge({"movie_row": row, "label": label})

    rr.core.seed_everything(seed)
    model = RecommendedModel(space, movies.batch, mean=float(train["rating"].mean()))
    tables = [module.weight for module in model.modules() if isinstance(module, rr.EmbeddingTable)]
    optimizer = rr.optim.Composite(
        [
            (rr.optim.Adagrad(lr=0.05, initial_accumulator=0.0), tables),
            (rr.optim.Adagrad(lr=0.01, initial_accumulator=0.0), list(model.mlp.parameters())),
        ]
    )
    batches = rr.data.Loader(columns(train), 512, shuffle=True, seed=seed)
    model.fit(batches, optimizer=optimizer, epochs=epochs, seed=seed, progress=False)
    return ndcg(model.predict(rr.data.Loader(columns(test), 4096)), test)


def without_learning(train: pl.DataFrame, test: pl.DataFrame) -> dict[str, float]:
    """Return the test NDCG of chance, and of the movies' mean ratings, drawn to the mean of all by ten ratings."""
    mean = train["rating"].mean()
    chance = [ndcg(torch.rand(len(test), SIZE, generator=rr.core.generator(seed)), test) for seed in range(20)]
    liking = (pl.col("rating") - mean).sum() / (pl.len() + 10)
    movies = test.select(pl.col("movie_id").explode()).join(
        train.group_by("movie_id").agg(liking.alias("liking")), on="movie_id", how="left", maintain_order="left"
    )
    ratings = torch.tensor(movies["liking"].fill_null(0).to_numpy()).view(len(test), SIZE)
    return {"random order, mean of 20": statistics.mean(chance), "mean rating of each movie": ndcg(ratings, test)}


def print_row(system: str, loss: str, values: list[float]) -> None:
    """Print a row of the table: the mean and, of several seeds, the spread and each value."""
    mean, spread, each = f"{statistics.mean(values):.4f}", "", ""
    if len(values) > 1:
        spread = f" ± {statistics.pstdev(values):.4f}"
        each = ", ".join(f"{value:.4f}" for value in values)
    print(f"| {system} | {loss} | {mean}{spread} | {each} |".replace("  ", " "), flush=True)


def main(seeds: int, epochs: int | None = None) -> None:
    """Print a Markdown table; without `epochs` each setting has its own number."""
    data = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(data.interactions, test_size=20_000, seed=42)
    train_lists, test_lists = sampled(train, per_query=50), sampled(test, per_query=1)
    print("| system | loss | test NDCG, mean ± std | each seed |\n|---|---|---|---|")
    for name, value in without_learning(train, test_lists).items():
        print_row(name, "", [value])
    for name, setting in TUTORIALS.items():
        setting = replace(setting, epochs=epochs or setting.epochs)
        for loss, value in setting.measured.items():
            print_row(f"{name}, measured on the same lists", loss, [value])
        for loss, build in LOSSES.items():
            ours = learn_tutorial(train_lists, test_lists, setting, build())
            print_row("its tutorial, in retrank", loss, [ours])
    values = [learn_recommended(train, test_lists, data, seed, epochs or 12) for seed in range(seeds)]
    print_row("recommended", "MSE", values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
