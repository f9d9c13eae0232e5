"""Retrieve movies that a user will give 5 stars: the deep recommender of Keras-RS, with towers of 1, 2 and 3 layers.

Run:  python examples/deep_recommender.py --seeds 3        (about five minutes)
Data: MovieLens-100K, 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42).
Measured: the share of the 5-star test rows whose movie is among the 100 best of all 1,682 movies for that user. Movies
that the user has rated before stay in the list, as they do in Keras-RS, and a movie that the model does not know is a
miss. The settings were chosen on a tenth of the training rows.
"""

import argparse
import statistics
from typing import Literal

import polars as pl

import retrank as rr

LAYERS = {1: [32], 2: [64, 32], 3: [128, 64, 32]}
KERAS_RS = {1: 0.3423, 2: 0.3039, 3: 0.2944}  # measured on the same data and protocol
TOP = 100


def positives(train: pl.DataFrame) -> pl.DataFrame:
    """Keep what users liked, 4 stars and 5, of which 5 count three times; weights have mean 1."""
    liked = train.filter(pl.col("rating") >= 4).with_columns(
        weight=pl.when(pl.col("rating") == 5).then(3.0).otherwise(1.0)
    )
    return liked.with_columns(pl.col("weight") / pl.col("weight").mean())


def feature_space(rows: pl.DataFrame) -> rr.FeatureSpace:
    """Fit on the rows of training, so that the sampling correction counts what is sampled."""
    return rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=10),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "movie_id": rr.features.Categorical(),
            "title": rr.features.Text(max_length=16),
            "genres": rr.features.CategoricalList(),
            "weight": rr.features.Passthrough(),
        },
        crosses=[rr.features.Cross("gender", "age", bins=20)],
    ).fit(rows)


def build(
    space: rr.FeatureSpace, movies: pl.DataFrame, layers: list[int], negatives: Literal["catalogue", "in_batch"]
) -> rr.models.TwoTower:
    """Two towers whose dense layers learn from the features, while a vector of each user and movie passes them by."""
    sampled = negatives == "in_batch"
    query = ["user_id", "age", "gender", "occupation", "gender_x_age"]
    return rr.models.TwoTower(
        query=rr.models.Tower(space, query, layers=layers, residual="user_id"),
        candidate=rr.models.Tower(space, ["movie_id", "title", "genres"], layers=layers, residual="movie_id"),
        task=rr.tasks.Retrieval(
            log_q=sampled,
            remove_accidental_hits=sampled,
            metrics=[rr.metrics.FullCorpusTopK(ks=(TOP,), metrics=("hit_rate",))],
        ),
        catalogue=space.catalogue(movies, key="movie_id"),
        negatives=negatives,
        weight="weight",
        output_l2=0.02,
    )


def run(
    movies: pl.DataFrame,
    train: pl.DataFrame,
    test: pl.DataFrame,
    seed: int,
    *,
    layers: list[int],
    negatives: Literal["catalogue", "in_batch"],
    epochs: int = 6,
) -> float:
    """Train, and return the share of the 5-star test rows that are found."""
    rows = positives(train)
    space = feature_space(rows)
    rr.core.seed_everything(seed)
    model = build(space, movies, layers, negatives)
    batches = space.loader(rows, batch_size=1000, shuffle=True, seed=seed)
    schedule = rr.training.linear_decay(epochs * len(batches))
    optimizer = rr.optim.LazyAdam(lr=0.01)
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    loved = test.filter(pl.col("rating") == 5).with_columns(weight=pl.lit(1.0))
    return model.evaluate(space.loader(loved, batch_size=4096))[f"hit_rate@{TOP}"]


def same_for_all(counted: pl.DataFrame, test: pl.DataFrame) -> float:
    """Count the movies of some rows, and return the share of the 5-star test rows that the most frequent hold."""
    stranger = pl.DataFrame({"user_id": ["nobody"]})
    best = rr.baselines.Popularity().fit(counted).recommend_many(stranger, k=TOP)["movie_id"]
    return test.filter(pl.col("rating") == 5)["movie_id"].is_in(best.implode()).mean()


def main(seeds: int, epochs: int = 6, layers: tuple[int, ...] = (1, 2, 3)) -> None:
    """Print a Markdown table."""
    movielens = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(movielens.interactions, test_size=20_000, seed=42)
    print("| system | layers | top-100 accuracy, mean ± std | each seed |\n|---|---|---|---|")
    print(f"| popularity | | {same_for_all(train, test):.4f} | |")
    print(f"| number of 5-star ratings | | {same_for_all(train.filter(pl.col('rating') == 5), test):.4f} | |")
    for depth in layers:
        print(f"| Keras-RS, measured on the same data and protocol | {depth} | {KERAS_RS[depth]:.4f} | |")
    for negatives in ("catalogue", "in_batch"):
        for depth in layers:
            settings = {"layers": LAYERS[depth], "negatives": negatives, "epochs": epochs}
            values = [run(movielens.candidates, train, test, seed, **settings) for seed in range(seeds)]
            spread = f"{statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f}"
            each = ", ".join(f"{value:.4f}" for value in values)
            print(f"| retrank, negatives `{negatives}` | {depth} | {spread} | {each} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3], choices=LAYERS)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs, tuple(arguments.layers))
