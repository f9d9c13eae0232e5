"""What is `rr.update` worth? New ratings come in slice by slice, and a recommender keeps up, or does not.

Run:  python examples/update.py --seeds 3        (about three minutes)
Data: MovieLens-100K in the order of time, cut into five slices of 20,000 ratings. A model is trained on the first; then
slices 2, 3 and 4 are learned from one after another, and each time the slice after it is the test.
The test: of each user of that slice, the earlier half of the ratings in it is told to all systems as events, from
which no model learns, and the later half is to be predicted: all 1,682 movies are ranked, without those that the user
has rated so far. Five of six ratings of a slice are of users who are new in it: they are served by what they did last,
which the query tower reads from the history, and by age, gender and occupation.
The defaults of `rr.update` were chosen on ratings of the first three slices alone, so slices 4 and 5 are the test.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import torch

import retrank as rr

KEYS = ["user_id", "movie_id", "timestamp"]
NAMES = {"query": "user_id", "candidate": "movie_id"}
USER = ["user_id", "age", "gender", "occupation", "gender_x_age"]
MOVIE = ["movie_id", "title", "genres", "year"]
METRICS = ("ndcg", "recall")
BASELINES = {"popularity": rr.baselines.Popularity, "EASE, recent first": lambda: rr.baselines.EASE(300.0, decay=0.1)}
Quality = dict[str, float]


@dataclass(frozen=True)
class Data:
    """Ratings, slice by slice, and what is known of all users and movies."""

    slices: Sequence[pl.DataFrame]
    users: pl.DataFrame
    movies: pl.DataFrame

    def before(self, place: int) -> pl.DataFrame:
        """Return all ratings before a slice."""
        return pl.concat(self.slices[:place])

    def told_and_asked(self, place: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the earlier and the later half of each user's ratings in a slice."""
        return rr.data.leave_last_split(self.slices[place], query="user_id", time="timestamp", test_size=0.5)


def read(num_slices: int = 5) -> Data:
    """Sort the ratings by time and cut them into slices."""
    movielens = rr.datasets.movielens_100k()
    ratings = movielens.interactions.sort("timestamp", maintain_order=True).select(KEYS)
    ratings = ratings.join(movielens.queries, on="user_id", how="left", maintain_order="left")
    size = len(ratings) // num_slices
    return Data(
        [ratings[n * size : (n + 1) * size] for n in range(num_slices)], movielens.queries, movielens.candidates
    )


def trained(data: Data, ratings: pl.DataFrame, seed: int, epochs: int = 3) -> rr.Recommender:
    """Train the two towers of `retrank quickstart`, with its settings."""
    rows = rr.data.with_recent_candidates(ratings, **NAMES, time="timestamp", length=50)
    rows = rows.join(data.movies, on="movie_id", how="left", maintain_order="left")
    kinds = {
        **dict.fromkeys(["user_id", "gender", "occupation", "movie_id"]),
        "age": rr.features.Bucketized([18, 25, 30, 35, 40, 45, 50, 56]),
        "title": rr.features.Text(max_length=8),
        "genres": rr.features.CategoricalList(),
        "year": rr.features.Bucketized([*range(1930, 1990, 10), 1985, 1990, *range(1992, 1999)], fill=1995),
        "recent": rr.features.Recent("movie_id", decay=0.1),
    }
    kinds = {name: kind or rr.features.Categorical() for name, kind in kinds.items()}
    space = rr.FeatureSpace(kinds, [rr.features.Cross("gender", "age", bins=20)]).fit(rows)
    rr.core.seed_everything(seed)
    towers = [
        rr.models.Tower(space, names, layers=[128, 64], dim=16, dropout=0.2, residual=residual)
        for names, residual in ((USER, "recent"), (MOVIE, "movie_id"))
    ]
    model = rr.models.TwoTower(
        *towers,
        rr.tasks.Retrieval(temperature=0.1, log_q=True, remove_accidental_hits=True),
        normalize=True,
        tie_residuals=True,
    )
    usable = rows.filter(pl.col("recent").list.len() > 0)  # the others have nothing that a residual could be made of
    batches = space.loader(usable, batch_size=1024, shuffle=True, seed=seed, features=list(model.features))
    schedule = rr.training.linear_decay(epochs * len(batches))
    optimizer = rr.optim.LazyAdam(lr=0.003)
    model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)
    return rr.Recommender(
        retrieval=model, space=space, catalogue=data.movies, history=ratings, queries=data.users, time="timestamp"
    )


@dataclass(frozen=True)
class Deaf:
    """A recommender that hears of no event; what a user has seen since is merely left out of the lists."""

    recommender: rr.Recommender
    since: pl.DataFrame

    def recommend_many(self, queries: pl.DataFrame, k: int, *, exclude_seen: bool) -> pl.DataFrame:
        """Ask for each user with what must not be recommended."""
        seen = dict(self.since.group_by("user_id").agg("movie_id").iter_rows())
        requests = [
            rr.recommender.Request({"user_id": user}, k, exclude_seen=exclude_seen, deny=seen.get(user, []))
            for user in queries["user_id"]
        ]
        return self.recommender.recommend_many(requests)


# How a recommender is made that has learned from slice `place`, given the one that had learned from those before it.
Step = Callable[[Data, int, int, rr.Recommender], rr.Recommender]


def stale(data: Data, place: int, _seed: int, before: rr.Recommender) -> rr.Recommender:
    """Append the ratings as events; the model stays that of the first slice."""
    return before.with_events(data.slices[place].select(KEYS))


def updated(data: Data, place: int, seed: int, before: rr.Recommender) -> rr.Recommender:
    """Go on with the defaults."""
    return rr.update(before, data.slices[place], seed=seed)


def retrained(data: Data, place: int, seed: int, before: rr.Recommender) -> rr.Recommender:
    """Go on with all old ratings beside the new ones."""
    return rr.update(before, data.slices[place], replay=float(place), seed=seed)


def from_scratch(data: Data, place: int, seed: int, _before: rr.Recommender) -> rr.Recommender:
    """Forget what there is."""
    return trained(data, data.before(place + 1), seed)


STEPS: dict[str, Step] = {
    "stale": stale, "updated": updated, "retrained": retrained, "retrained from scratch": from_scratch,
}  # fmt: skip


def quality(data: Data, place: int, system: rr.evaluation.Recommends) -> Quality:
    """Measure on a slice how well a system predicts the later half of each user's ratings."""
    told, asked = data.told_and_asked(place)
    seen = pl.concat([data.before(place), told])
    report = rr.evaluate(
        {"system": system}, seen, asked, ks=(10,), metrics=METRICS, **NAMES, time="timestamp", progress=False
    )
    return {metric: report.value("system", f"{metric}@10") for metric in METRICS}


def same_bits(one: rr.Recommender, other: rr.Recommender) -> bool:
    """Return whether all weights and all lists are equal."""
    weights, others = one.retrieval.state_dict(), other.retrieval.state_dict()
    users = one.queries.stored_table.select("user_id")
    return (
        weights.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in weights.items())
        and one.recommend_many(users).equals(other.recommend_many(users))
    )


def print_row(system: str, runs: Sequence[Sequence[Quality]], seconds: Sequence[float] = ()) -> None:
    """Print means over the runs; a run has a quality for each slice, and the last two are the test."""
    ndcg, recall = ([[slice_[metric] for slice_ in run] for run in runs] for metric in METRICS)
    cells = [f"{statistics.mean(values):.4f}" for values in zip(*ndcg, strict=True)]
    for metric in (ndcg, recall):
        means = [statistics.mean(run[-2:]) for run in metric]
        cells.append(f"{statistics.mean(means):.4f}" + (f" ± {statistics.pstdev(means):.4f}" if len(runs) > 1 else ""))
    print(f"| {system} |", " | ".join(cells), "|", ", ".join(f"{each:.1f}" for each in seconds), "|", flush=True)


def main(seeds: int) -> None:
    """Print a Markdown table, and whether a repeated update has the same bits."""
    data = read()
    tests = range(2, len(data.slices))
    slices = [*(f"slice {place + 1}" for place in tests), "slices 4 and 5"]
    columns = [*(f"NDCG@10, {name}" for name in slices), "recall@10, slices 4 and 5"]
    print("| system |", " | ".join(columns), "| seconds |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name, build in BASELINES.items():
        print_row(name, [[quality(data, place, build()) for place in tests]])
    first = [trained(data, data.slices[0], seed) for seed in range(seeds)]
    since = [pl.concat([data.before(place)[len(data.slices[0]) :], data.told_and_asked(place)[0]]) for place in tests]
    runs = [
        [quality(data, place, Deaf(one, events)) for place, events in zip(tests, since, strict=True)] for one in first
    ]
    print_row("stale, deaf", runs)
    for name, step in STEPS.items():
        runs, seconds = [], dict.fromkeys(tests, 0.0)
        for seed, recommender in enumerate(first):
            runs.append([])
            for place in tests:
                started = time.process_time()
                recommender = step(data, place - 1, seed, recommender)
                seconds[place] += (time.process_time() - started) / seeds
                live = recommender.with_events(data.told_and_asked(place)[0].select(KEYS))
                runs[-1].append(quality(data, place, live))
        print_row(name, runs, () if name == "stale" else list(seconds.values()))
    once, again = (updated(data, 1, 0, first[0]) for _ in range(2))
    print(f"\nAn update, repeated, has the same bits: {'yes' if same_bits(once, again) else 'no'}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    main(parser.parse_args().seeds)
