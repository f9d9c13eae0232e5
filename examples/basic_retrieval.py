"""Retrieve the movies that a user will rate: the retrieval tutorial of TensorFlow Recommenders, and what we recommend.

Run:  python examples/basic_retrieval.py --seeds 3        (about six minutes)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42).
Every rating is a positive, whatever its stars. Measured: the share of the 20,000 test rows whose movie is among the k
best of all 1,682 movies for that user. "Seen kept" leaves the movies of the user's training rows in the list, as the
tutorial does; "seen excluded" takes them out, as a service would. The recommended settings were chosen on a tenth of
the training rows, never on the test rows.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import polars as pl

import retrank as rr

KS = (1, 5, 10, 50, 100)
TFRS = {1: 0.0012, 5: 0.0089, 10: 0.0210, 50: 0.1230, 100: 0.2346}  # measured on the same split and protocol
USER = ["user_id", "age", "gender", "occupation", "gender_x_age"]
MOVIE = ["movie_id", "title", "genres", "year"]
SEEN = {"kept": False, "excluded": True}
Shares = dict[int, float]


def feature_space(train: pl.DataFrame) -> rr.FeatureSpace:
    """Learn vocabularies and the boundaries of ages from the rows of training."""
    return rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=10),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "movie_id": rr.features.Categorical(),
            "title": rr.features.Text(max_length=16),
            "genres": rr.features.CategoricalList(),
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
        },
        crosses=[rr.features.Cross("gender", "age", bins=20)],
    ).fit(train)


def top_k() -> rr.metrics.FullCorpusTopK:
    """Rank all movies for the user of each test row."""
    return rr.metrics.FullCorpusTopK(ks=KS, metrics=("hit_rate",))


def tutorial(
    space: rr.FeatureSpace,
    movies: rr.features.Catalogue,
    rows: pl.DataFrame,
    seed: int,
    *,
    reduction: Literal["sum", "mean"] = "sum",
    epochs: int = 3,
) -> rr.models.RetrievalModel:
    """Train as the tutorial does, with the other movies of the batch as negatives; there, the loss is a sum."""
    model = rr.models.MatrixFactorization(
        space.schema["user_id"],
        space.schema["movie_id"],
        rr.tasks.Retrieval(reduction=reduction, metrics=[top_k()]),
        dim=32,
        bias=False,
        catalogue=movies,
    )
    batches = space.loader(rows, batch_size=8192, shuffle=True, seed=seed, features=model.features)
    model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=epochs, seed=seed, progress=False)
    return model


def factorization(
    space: rr.FeatureSpace, movies: rr.features.Catalogue, rows: pl.DataFrame, seed: int, *, epochs: int = 8
) -> rr.models.RetrievalModel:
    """Give each user and movie a vector, and each movie a bias; all other movies are negatives."""
    model = rr.models.MatrixFactorization(
        space.schema["user_id"],
        space.schema["movie_id"],
        rr.tasks.Retrieval(metrics=[top_k()]),
        catalogue=movies,
        negatives="catalogue",
        output_l2=0.04,
    )
    return train_with_decay(model, space, rows, seed, epochs)


def two_tower(
    space: rr.FeatureSpace, movies: rr.features.Catalogue, rows: pl.DataFrame, seed: int, *, epochs: int = 8
) -> rr.models.RetrievalModel:
    """Add what the features tell, through one dense layer, to a vector of each user and movie."""
    model = rr.models.TwoTower(
        query=rr.models.Tower(space, USER, layers=[64], residual="user_id"),
        candidate=rr.models.Tower(space, MOVIE, layers=[64], residual="movie_id"),
        task=rr.tasks.Retrieval(metrics=[top_k()]),
        catalogue=movies,
        negatives="catalogue",
        output_l2=0.04,
    )
    return train_with_decay(model, space, rows, seed, epochs)


def train_with_decay(
    model: rr.models.RetrievalModel, space: rr.FeatureSpace, rows: pl.DataFrame, seed: int, epochs: int
) -> rr.models.RetrievalModel:
    """Lower the learning rate to zero in few epochs: later ones would learn the training rows by heart."""
    batches = space.loader(rows, batch_size=1000, shuffle=True, seed=seed, features=model.features)
    schedule = rr.training.linear_decay(epochs * len(batches))
    optimizer = rr.optim.LazyAdam(lr=0.01)
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return model


BASELINES: dict[str, rr.baselines.Baseline] = {
    "popularity": rr.baselines.Popularity(),
    "EASE, l2 400": rr.baselines.EASE(l2=400),
    "EASE, l2 600": rr.baselines.EASE(l2=600),
}
SYSTEMS: dict[str, Callable[..., rr.models.RetrievalModel]] = {
    "tutorial": tutorial,
    "tutorial, loss averaged": partial(tutorial, reduction="mean"),
    "factorization": factorization,
    "two-tower": two_tower,
}


def shares_of_model(model: rr.models.RetrievalModel, test: rr.Batch, *, exclude_seen: bool) -> Shares:
    """Return the share of the test rows whose movie is among the k best of all movies."""
    results = model.evaluate(rr.data.Loader(test, batch_size=4096), exclude="seen" if exclude_seen else False)
    return {k: results[f"hit_rate@{k}"] for k in KS}


def shares_of_baseline(baseline: rr.baselines.Baseline, test: pl.DataFrame, *, exclude_seen: bool) -> Shares:
    """Do the same for what counts or solves, and does not train."""
    users = test.select("user_id").unique()
    lists = baseline.recommend_many(users, k=max(KS), exclude_seen=exclude_seen)
    found = test.join(lists, on=["user_id", "movie_id"])
    return {k: found.filter(pl.col("rank") <= k).height / test.height for k in KS}


def print_row(system: str, seen: str, runs: list[Shares]) -> None:
    """Print the means, and of the top-100 accuracy the spread and the single runs."""
    *cells, last = [f"{statistics.mean(run[k] for run in runs):.4f}" for k in KS]
    singles = []
    if len(runs) > 1:
        each = [run[KS[-1]] for run in runs]
        last += f" ± {statistics.pstdev(each):.4f}"
        singles = [", ".join(f"{value:.4f}" for value in each)]
    print("|", " | ".join([system, seen, *cells, last]), "|", *singles, "|", flush=True)


def main(seeds: int, epochs: int | None = None, systems: Sequence[str] = tuple(SYSTEMS)) -> None:
    """Print a Markdown table; without `epochs` each setting has its own number."""
    given = {} if epochs is None else {"epochs": epochs}
    movielens = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(movielens.interactions, test_size=20_000, seed=42)
    space = feature_space(train)
    movies = space.catalogue(movielens.candidates, key="movie_id")
    history = rr.features.History(train, movies, query="user_id")
    test_batch = space.transform(test).merge({"seen": history[test["user_id"]]})

    tops = " | ".join(f"top-{k}" for k in KS)
    print(f"| system | seen | {tops}, mean ± std | each seed |\n|{'---|' * (len(KS) + 3)}")
    for name, baseline in BASELINES.items():
        baseline.fit(train.select("user_id", "movie_id"))
        for seen, exclude_seen in SEEN.items():
            print_row(name, seen, [shares_of_baseline(baseline, test, exclude_seen=exclude_seen)])
    print_row("TensorFlow Recommenders, measured on the same data and protocol", "kept", [TFRS])
    for name in systems:
        models = []
        for seed in range(seeds):
            rr.core.seed_everything(seed)
            models.append(SYSTEMS[name](space, movies, train, seed, **given))
        for seen, exclude_seen in SEEN.items():
            print_row(name, seen, [shares_of_model(model, test_batch, exclude_seen=exclude_seen) for model in models])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs, arguments.systems)
