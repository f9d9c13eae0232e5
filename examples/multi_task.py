"""Rate and retrieve with one model: the multi-task tutorial of TensorFlow Recommenders, and what we recommend.

Run:  python examples/multi_task.py --seeds 3        (about half an hour)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42).
First table: the error of the predicted stars, and the share of the test rows whose movie is among the 100 best of all
1,682 movies for that user, with the movies of the user's training rows kept in the list or taken out. Second table: two
labels of a rating, its stars and whether they are at least 4, learned by the ready-made `rr.models.MultiTaskRanking`.
The recommended setting was chosen on a tenth of the training rows, never on the test rows; those of the second table
were not tuned.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import nn

import retrank as rr

TOP = 100
SIDE = ["age", "gender", "occupation", "year", "genres"]
IDS = ["user_id", "movie_id", *SIDE]


@dataclass
class Data:
    """The rows as columns of numbers: `row` is a movie's place in the catalogue, `seen` what its user rated before."""

    space: rr.FeatureSpace
    movies: rr.features.Catalogue
    train: rr.Batch
    test: rr.Batch
    mean: float


class TutorialModel(rr.Model):
    """One vector of each user and movie for both tasks: their dot product retrieves, an MLP above them rates."""

    def __init__(self, data: Data, rating_weight: float, retrieval_weight: float, dim: int = 32) -> None:
        super().__init__()
        self.rating_weight, self.retrieval_weight = rating_weight, retrieval_weight
        self.user = rr.EmbeddingTable(data.space.schema["user_id"], dim)
        self.movie = rr.EmbeddingTable(data.space.schema["movie_id"], dim)
        self.stars = rr.layers.MLP(2 * dim, [256, 128, 1])
        self.rating = rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])
        self.retrieval = rr.tasks.Retrieval(reduction="sum", metrics=[top_k()])
        self.register_buffer("catalogue", data.movies.batch["movie_id"], persistent=False)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        users, movies = self.user(batch["user_id"]), self.movie(batch["movie_id"])
        stars = self.stars(torch.cat([users, movies], dim=1))[:, 0]
        if not training:
            corpus = self.movie(self.catalogue)
            self.retrieval.update_metrics(users, corpus, batch["row"], exclude=batch["seen"])
        rating_loss = self.rating(labels=batch["rating"], predictions=stars)
        return self.rating_weight * rating_loss + self.retrieval_weight * self.retrieval(users, movies)


class RecommendedModel(rr.Model):
    """Two tasks that share what they can: retrieval's vectors also rate, beside biases and vectors of rating alone."""

    def __init__(self, data: Data, rating_weight: float, retrieval_weight: float, dim: int = 64) -> None:
        super().__init__()
        self.rating_weight, self.retrieval_weight, self.mean = rating_weight, retrieval_weight, data.mean
        user, movie = data.space.schema["user_id"], data.space.schema["movie_id"]
        self.user, self.movie = (rr.EmbeddingTable(key, dim, l2=0.04) for key in (user, movie))
        self.popularity = rr.EmbeddingTable(movie, 1, scale=0.0)
        self.user_bias, self.movie_bias = (rr.EmbeddingTable(key, 1, scale=0.0, l2=0.0003) for key in (user, movie))
        self.user_taste, self.movie_taste = (rr.EmbeddingTable(key, dim // 2, l2=0.003) for key in (user, movie))
        self.stars = rr.layers.MLP(3 * dim, [64, 1], dropout=0.5)
        self.rating = rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])
        self.retrieval = rr.tasks.Retrieval(metrics=[top_k()])
        self.register_buffer("catalogue", data.movies.batch["movie_id"], persistent=False)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> torch.Tensor:
        users, catalogue = self.user(batch["user_id"]), self.movie(self.catalogue)
        movies = catalogue[batch["row"]]
        biases = self.mean + self.user_bias(batch["user_id"]) + self.movie_bias(batch["movie_id"])
        tastes = self.user_taste(batch["user_id"]) * self.movie_taste(batch["movie_id"])
        shared = self.stars(torch.cat([users, movies, users * movies], dim=1))
        stars = biases[:, 0] + tastes.sum(dim=1) + shared[:, 0]
        queries = torch.cat([users, torch.ones_like(biases)], dim=1)
        candidates = torch.cat([catalogue, self.popularity(self.catalogue)], dim=1)
        if not training:
            stars = stars.clamp(1, 5)
            self.retrieval.update_metrics(queries, candidates, batch["row"], exclude=batch["seen"])
        rating_loss = self.rating(labels=batch["rating"], predictions=stars)
        retrieval_loss = self.retrieval(queries, candidates, positives=batch["row"])
        return self.rating_weight * rating_loss + self.retrieval_weight * retrieval_loss


def top_k() -> rr.metrics.FullCorpusTopK:
    """Rank all movies for the user of each test row."""
    return rr.metrics.FullCorpusTopK(ks=(TOP,), metrics=("hit_rate",))


def prepare(movielens: rr.datasets.MovieLens, train: pl.DataFrame, test: pl.DataFrame) -> Data:
    """Fit the features on the rows of training, and turn all rows into columns of numbers."""
    mean = float(train["rating"].mean())
    rated = train.with_columns(liked=train["rating"] >= 4)
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
            "stars": rr.features.Rescaled(offset=-mean, column="rating"),  # a network begins near zero
            "liked": rr.features.Passthrough(),
        }
    ).fit(rated)
    movies = space.catalogue(movielens.candidates, key="movie_id")

    def columns(rows: pl.DataFrame) -> rr.Batch:
        batch = space.transform(rows.with_columns(liked=rows["rating"] >= 4))
        return batch.merge({"row": movies.rows(rows["movie_id"])})

    history = rr.features.History(train, movies, query="user_id")
    return Data(space, movies, columns(train), columns(test).merge({"seen": history[test["user_id"]]}), mean)


def tutorial(data: Data, weights: tuple[float, float], seed: int, epochs: int = 3) -> rr.Model:
    """Train as the tutorial does: the other movies of a batch are the negatives, and their loss is a sum."""
    model = TutorialModel(data, *weights)
    batches = rr.data.Loader(data.train, batch_size=8192, shuffle=True, seed=seed)
    model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=epochs, seed=seed, progress=False)
    return model


def recommended(data: Data, weights: tuple[float, float], seed: int, epochs: int = 6) -> rr.Model:
    """Train the tables faster than the network, and both slower and slower, for few epochs."""
    model = RecommendedModel(data, *weights)
    tables = [module.weight for module in model.modules() if isinstance(module, rr.EmbeddingTable)]
    optimizer = rr.optim.Composite(
        [(rr.optim.LazyAdam(lr=0.015), tables), (rr.optim.Adam(lr=0.002), list(model.stars.parameters()))]
    )
    batches = rr.data.Loader(data.train, batch_size=2000, shuffle=True, seed=seed)
    schedule = rr.training.linear_decay(epochs * len(batches))
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return model


def quality(model: rr.Model, test: rr.Batch) -> list[float]:
    """Return the error of the stars, and the top-100 accuracy with seen movies kept and excluded."""
    nothing = rr.Jagged.empty(len(test))
    kept, excluded = (
        model.evaluate(rr.data.Loader(test.merge({"seen": seen}), batch_size=4096)) for seen in (nothing, test["seen"])
    )
    return [kept["rmse"], kept[f"hit_rate@{TOP}"], excluded[f"hit_rate@{TOP}"]]


SETTINGS: dict[str, tuple[Callable[..., rr.Model], Sequence[tuple[float, float]]]] = {
    "tutorial": (tutorial, [(1, 0), (0, 1), (1, 1)]),
    "recommended": (recommended, [(0.03, 0), (0, 1), (0.03, 1)]),
}


def experts(kind: str, tasks: Sequence[str]) -> nn.Module:
    """Return what lies between the features and the tower of each task."""
    if kind == "MMoE":
        return rr.layers.MMoE(None, [64, 32], tasks=tasks, num_experts=4, dropout=0.3)
    if kind == "PLE":
        return rr.layers.PLE(None, [[64], [32]], tasks=tasks, dropout=0.3)
    return rr.layers.MLP(None, [64, 32], final_activation=nn.ReLU(), dropout=0.3)


def ready_made(
    data: Data, tasks: Sequence[str], kind: str, weights: str | None, seed: int, epochs: int = 6
) -> rr.models.MultiTaskRanking:
    """Train a `MultiTaskRanking` on the stars, on whether they are at least 4, or on both."""
    kinds = {
        "stars": rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]),
        "liked": rr.tasks.Ranking(metrics=[rr.metrics.AUC()]),
    }
    tables = {name: rr.EmbeddingTable(data.space.schema[name], 8 if name in SIDE else 32, l2=0.03) for name in IDS}
    model = rr.models.MultiTaskRanking(
        rr.EmbeddingCollection(tables),
        {name: kinds[name] for name in tasks},
        experts=experts(kind, tasks),
        tower_layers=[16],
        task_weights=weights,
    )
    optimizer = rr.optim.Composite(
        [(rr.optim.LazyAdam(lr=0.01), model.embedding_parameters), (rr.optim.Adam(lr=0.002), model.dense_parameters)]
    )
    batches = rr.data.Loader(data.train, batch_size=1000, shuffle=True, seed=seed)
    schedule = rr.training.linear_decay(epochs * len(batches))
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return model


READY_MADE: list[tuple[Sequence[str], str, str | None]] = [
    (["stars"], "MLP", None),
    (["liked"], "MLP", None),
    (["stars", "liked"], "MLP", None),
    (["stars", "liked"], "MLP", "uncertainty"),
    (["stars", "liked"], "MMoE", "uncertainty"),
    (["stars", "liked"], "PLE", "uncertainty"),
]


def summary(values: Sequence[float]) -> str:
    """Write the mean, and the standard deviation if there are several values."""
    spread = f" ± {statistics.pstdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def main(seeds: int, epochs: int | None = None) -> None:
    """Print two Markdown tables; without `epochs` each setting has its own number."""
    given = {} if epochs is None else {"epochs": epochs}
    movielens = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(movielens.interactions, test_size=20_000, seed=42)
    data = prepare(movielens, train, test)

    print("| setting | weight of rating | weight of retrieval | test RMSE |", end="")
    print(f" top-{TOP}, seen kept | top-{TOP}, seen excluded |\n|{'---|' * 6}")
    for name, (learn, weightings) in SETTINGS.items():
        for weights in weightings:
            runs = []
            for seed in range(seeds):
                rr.core.seed_everything(seed)
                runs.append(quality(learn(data, weights, seed, **given), data.test))
            cells = [summary(values) for values in zip(*runs, strict=True)]
            print("|", " | ".join([name, *(f"{weight:g}" for weight in weights), *cells]), "|", flush=True)

    print(f"\n| tasks | experts | weights of the losses | stars: test RMSE | liked: test AUC |\n|{'---|' * 5}")
    for tasks, kind, weights in READY_MADE:
        results = []
        for seed in range(seeds):
            rr.core.seed_everything(seed)
            model = ready_made(data, tasks, kind, weights, seed, **given)
            results.append(model.evaluate(rr.data.Loader(data.test, batch_size=4096)))
        cells = [
            summary([result[metric] for result in results]) if metric in results[0] else ""
            for metric in ("stars.rmse", "liked.auc")
        ]
        print("|", " | ".join([" and ".join(tasks), kind, weights or "equal", *cells]), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
