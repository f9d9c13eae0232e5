"""What does the moment of a query tell? The context-features tutorial of TensorFlow Recommenders, on two splits.

Run:  python examples/context_features.py --seeds 3        (about four minutes)
Data: MovieLens-100K. "Random": 80,000 ratings to train and 20,000 to test, drawn by numpy's default_rng(42), as in
basic_retrieval.py. "Time": the last fifth of all ratings is the test part.
The query is a user at a moment: as in the tutorial, the model is told the timestamp of the test row. The first table
shows what that gives away on each split; the second one what the models make of it: the share of the test rows whose
movie is among the 100 best of all 1,682 movies, with the movies of the user's training rows kept in the list or taken
out. The recommended setting was chosen on a tenth of the training rows of the random split, never on test rows.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

import retrank as rr

TOP = 100
USER = ["user_id", "age", "gender", "occupation", "gender_x_age"]
MOVIE = ["movie_id", "title", "genres", "year"]
SEEN: dict[str, Literal[False] | str] = {"kept": False, "excluded": "seen"}
BASELINES = {"popularity": rr.baselines.Popularity, "EASE, l2 600": lambda: rr.baselines.EASE(l2=600)}


@dataclass
class Split:
    """Training rows, test rows, and what is learned of the features from the former."""

    name: str
    train: pl.DataFrame
    test: pl.DataFrame
    space: rr.FeatureSpace
    movies: rr.features.Catalogue

    def test_batches(self) -> rr.data.Loader:
        """Return the test rows, each with the movies that its user rated in training."""
        history = rr.features.History(self.train, self.movies, query="user_id")
        return rr.data.Loader(
            self.space.transform(self.test).merge({"seen": history[self.test["user_id"]]}), batch_size=4096
        )


def feature_space(train: pl.DataFrame) -> rr.FeatureSpace:
    """Learn vocabularies, and of the timestamp its mean, its spread and where it lies densely."""
    evenly = np.linspace(train["timestamp"].min(), train["timestamp"].max(), num=1000).tolist()
    return rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=10),
            "gender": rr.features.Categorical(),
            "occupation": rr.features.Categorical(),
            "time": rr.features.Normalized(column="timestamp"),
            "even_bucket": rr.features.Bucketized(evenly, column="timestamp"),
            "full_bucket": rr.features.Discretized(bins=1000, column="timestamp"),  # about 80 ratings in each
            "movie_id": rr.features.Categorical(),
            "title": rr.features.Text(max_tokens=10_000, max_length=16),
            "genres": rr.features.CategoricalList(),
            "year": rr.features.Bucketized(boundaries=list(range(1925, 2000, 5)), fill=1995),
        },
        crosses=[rr.features.Cross("gender", "age", bins=20)],
    ).fit(train)


def splits(movielens: rr.datasets.MovieLens, num_test: int = 20_000) -> list[Split]:
    """Split the ratings by chance, and by time."""
    parts = {
        "random": rr.data.random_split(movielens.interactions, test_size=num_test, seed=42),
        "time": rr.data.time_split(movielens.interactions, time="timestamp", test_size=num_test),
    }
    made = []
    for name, (train, test) in parts.items():
        space = feature_space(train)
        made.append(Split(name, train, test, space, space.catalogue(movielens.candidates, key="movie_id")))
    return made


def tutorial(split: Split, seed: int, *, time: bool, epochs: int = 3) -> rr.models.RetrievalModel:
    """Train the tutorial's towers: one dense layer over the user and the moment, one over the movie and its title."""
    model = rr.models.TwoTower(
        query=rr.models.Tower(split.space, ["user_id", *(["time", "even_bucket"] if time else [])], layers=[32]),
        candidate=rr.models.Tower(split.space, ["movie_id", "title"], layers=[32]),
        task=rr.tasks.Retrieval(reduction="sum", metrics=[top_k()]),
        catalogue=split.movies,
    )
    batches = split.space.loader(split.train, batch_size=2048, shuffle=True, seed=seed, features=model.features)
    model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=epochs, seed=seed, progress=False)
    return model


def recommended(split: Split, seed: int, *, time: bool, epochs: int = 6) -> rr.models.RetrievalModel:
    """Train against all movies, with a vector of each user and movie beside the dense layer, for few epochs."""
    model = rr.models.TwoTower(
        query=rr.models.Tower(
            split.space, [*USER, *(["time", "full_bucket"] if time else [])], layers=[64], residual="user_id"
        ),
        candidate=rr.models.Tower(split.space, MOVIE, layers=[64], residual="movie_id"),
        task=rr.tasks.Retrieval(metrics=[top_k()]),
        catalogue=split.movies,
        negatives="catalogue",
        output_l2=0.04,
    )
    batches = split.space.loader(split.train, batch_size=2000, shuffle=True, seed=seed, features=model.features)
    schedule = rr.training.linear_decay(epochs * len(batches))
    optimizer = rr.optim.LazyAdam(lr=0.015)
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return model


def top_k() -> rr.metrics.FullCorpusTopK:
    """Rank all movies for the user and the moment of each test row."""
    return rr.metrics.FullCorpusTopK(ks=(TOP,), metrics=("hit_rate",))


SETTINGS: dict[str, Callable[..., rr.models.RetrievalModel]] = {"tutorial": tutorial, "recommended": recommended}


def share_of_baseline(baseline: rr.baselines.Baseline, split: Split, *, exclude_seen: bool) -> float:
    """Return the share of the test rows whose movie is in the list that their user gets."""
    users = split.test.select("user_id").unique()
    lists = baseline.recommend_many(users, k=TOP, exclude_seen=exclude_seen)
    return split.test.join(lists, on=["user_id", "movie_id"]).height / split.test.height


def print_what_time_gives_away(split: Split) -> None:
    """Print how near the training ratings of the same user are to a test row."""
    times = split.train.select("user_id", trained=pl.col("timestamp")).sort("trained")
    rows = split.test.sort("timestamp").join_asof(
        times, left_on="timestamp", right_on="trained", by="user_id", strategy="nearest", check_sortedness=False
    )
    distance = (rows["timestamp"] - rows["trained"]).abs()
    shares = [
        rows["user_id"].is_in(times["user_id"].unique().implode()).mean(),
        *((distance <= seconds).fill_null(False).mean() for seconds in (3600, 0)),
    ]
    print(f"| {split.name} | {rows.height:,} |", " | ".join(f"{share:.1%}" for share in shares), "|", flush=True)


def print_row(split: str, system: str, time: str, shares: Sequence[Sequence[float]]) -> None:
    """Print means and standard deviations over the runs, first with seen movies kept, then excluded."""
    cells = [
        f"{statistics.mean(runs):.4f}" + (f" ± {statistics.pstdev(runs):.4f}" if len(runs) > 1 else "")
        for runs in shares
    ]
    print(f"| {split} | {system} | {time} |", " | ".join(cells), "|", flush=True)


def main(seeds: int, epochs: int | None = None, settings: Sequence[str] = tuple(SETTINGS)) -> None:
    """Print two Markdown tables; without `epochs` each setting has its own number."""
    given = {} if epochs is None else {"epochs": epochs}
    made = splits(rr.datasets.movielens_100k())
    print("| split | test rows | of users in training | within an hour of one | in the second of one |")
    print("|---|---|---|---|---|")
    for split in made:
        print_what_time_gives_away(split)
    print(f"\n| split | system | timestamp | top-{TOP}, seen kept | top-{TOP}, seen excluded |\n|---|---|---|---|---|")
    for split in made:
        for name, build in BASELINES.items():
            baseline = build().fit(split.train.select("user_id", "movie_id"))
            shares = [[share_of_baseline(baseline, split, exclude_seen=bool(seen))] for seen in SEEN.values()]
            print_row(split.name, name, "", shares)
        batches = split.test_batches()
        for name in settings:
            for time in (False, True):
                runs = []
                for seed in range(seeds):
                    rr.core.seed_everything(seed)
                    model = SETTINGS[name](split, seed, time=time, **given)
                    runs.append([model.evaluate(batches, exclude=seen)[f"hit_rate@{TOP}"] for seen in SEEN.values()])
                print_row(split.name, name, "used" if time else "not used", list(zip(*runs, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs, arguments.settings)
