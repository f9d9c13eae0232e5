"""Do the defaults win? The program of the README and an untouched configuration, beside tuned baselines, on any data.

Run:  python examples/defaults.py --data movielens-last --seeds 3      (one of DATA; about five minutes)
Data: MovieLens-100K split three ways, and worlds made by `rr.datasets.synthetic`. Two more are read from files in the
folder that `RETRANK_DATA` names, and skipped without them: Amazon Beauty as S3-Rec publishes it (`s3rec/Beauty.txt`,
a user and their items, oldest first, per line) and MovieLens-1M as UltraGCN does (`ultragcn-ml-1m/train.txt` and
`test.txt`, a user and their items in no order).
All candidates are ranked, what a user has in train is excluded. The baselines' settings and those of "README, tuned"
are chosen on a validation part of train: the last part of each user's rows as the test is made, or a tenth at random.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

import retrank as rr

METRICS = ["ndcg@10", "recall@10"]
PENALTIES = (100.0, 300.0, 1000.0)
DECAYS = (0.1, 0.3)
SEARCHED: tuple[dict[str, Any], ...] = (
    {}, {"power": 0.5}, {"power": 1.0}, {"temperature": 0.1}, {"temperature": 0.2}, {"epochs": 5},
)  # fmt: skip
"""What is tried of the README's program, each for one seed; `power` only where there are times."""


@dataclass(frozen=True)
class Data:
    """A data set, split.

    Args:
        train: interactions.
        test: interactions that came later, or at random.
        candidates: one row each.
        query: features of a query, first its key; the column has the same name.
        candidate: the same for candidates.
        features: kind of each of them, as a configuration says it.
        time: the column of times; None if there are none, or if they say nothing of what is train and test.
        last: how much of each query's last rows is test, where that is how it was split.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    candidates: pl.DataFrame
    query: list[str]
    candidate: list[str]
    features: Mapping[str, Mapping[str, Any]]
    time: str | None
    last: float | None

    def validation(self) -> "Data":
        """Split train as it was split from test, as nearly as that goes."""
        if self.time is None:
            train, test = rr.data.random_split(self.train, test_size=0.1, seed=0)
        else:
            last = self.last or 0.2
            train, test = rr.data.leave_last_split(self.train, query=self.query[0], time=self.time, test_size=last)
        return replace(self, train=train, test=test)


KEY = {"kind": "Categorical"}


def movielens(how: str) -> Data:
    """Split MovieLens-100K by each user's time, at one time for all, or at random."""
    data = rr.datasets.movielens_100k()
    table = data.interactions
    if how == "last":
        train, test = rr.data.leave_last_split(table, query="user_id", time="timestamp", test_size=0.2)
    elif how == "time":
        train, test = rr.data.time_split(table, time="timestamp", test_size=0.2)
    else:
        train, test = rr.data.random_split(table.drop("timestamp"), test_size=0.2, seed=42)
    features = {
        "user_id": KEY, "age": {"kind": "Discretized", "bins": 10}, "gender": KEY,
        "movie_id": KEY, "title": {"kind": "Text", "max_length": 8}, "genres": {"kind": "CategoricalList"},
    }  # fmt: skip
    query, candidate = ["user_id", "age", "gender"], ["movie_id", "title", "genres"]
    time, last = None if how == "random" else "timestamp", 0.2 if how == "last" else None
    return Data(train, test, data.candidates, query, candidate, features, time, last)


def synthetic(num_queries: int, num_candidates: int, num_interactions: int) -> Data:
    """Make a world, and split off each query's last interactions."""
    world = rr.datasets.synthetic(num_queries, num_candidates, num_interactions, seed=0)
    table = world.interactions.join(world.queries, on="query_id").join(world.candidates, on="candidate_id")
    train, test = rr.data.leave_last_split(table, query="query_id", time="timestamp", test_size=0.2)
    number = {"kind": "Normalized"}
    features = {
        "query_id": KEY, "group": KEY, "level": number,
        "candidate_id": KEY, "category": KEY, "tags": {"kind": "CategoricalList"}, "price": number,
    }  # fmt: skip
    query, candidate = ["query_id", "group", "level"], ["candidate_id", "category", "tags", "price"]
    return Data(train, test, world.candidates, query, candidate, features, "timestamp", 0.2)


def lines_of_items(path: Path) -> pl.DataFrame:
    """Read a user and their items per line, with the place in the line."""
    rows: list[tuple[str, str, int]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        user, *items = line.split()
        rows += [(user, item, place) for place, item in enumerate(items)]
    return pl.DataFrame(rows, schema=["user", "item", "place"], orient="row")


def beauty(folder: Path) -> Data:
    """Split off the last item of each user."""
    table = lines_of_items(folder / "s3rec" / "Beauty.txt")
    train, test = rr.data.leave_last_split(table, query="user", time="place", test_size=0.001)
    return _of_items(train, test, "place", 0.001)


def movielens_1m(folder: Path) -> Data:
    """Take the split as it is published."""
    parts = [lines_of_items(folder / "ultragcn-ml-1m" / f"{part}.txt").drop("place") for part in ("train", "test")]
    return _of_items(*parts, None, None)


def _of_items(train: pl.DataFrame, test: pl.DataFrame, time: str | None, last: float | None) -> Data:
    candidates = pl.concat([train, test]).select("item").unique(maintain_order=True)
    return Data(train, test, candidates, ["user"], ["item"], {"user": KEY, "item": KEY}, time, last)


DATA: dict[str, Callable[[Path], Data]] = {
    "movielens-last": lambda _: movielens("last"),
    "movielens-time": lambda _: movielens("time"),
    "movielens-random": lambda _: movielens("random"),
    "synthetic-dense": lambda _: synthetic(2000, 500, 60_000),
    "synthetic-sparse": lambda _: synthetic(1000, 2000, 30_000),
    "beauty": beauty,
    "movielens-1m": movielens_1m,
}


def readme(
    data: Data,
    seed: int,
    *,
    power: float = 0.75,
    temperature: float = 0.15,
    epochs: int = 3,
) -> rr.Recommender:
    """Train as the program of the README does; without times, what a query has stands in for what it did last."""
    query, candidate = data.query[0], data.candidate[0]
    kinds = {name: getattr(rr.features, entry["kind"])(**_arguments(entry)) for name, entry in data.features.items()}
    if data.time is None:
        past = "seen"
        rows = rr.data.with_seen_candidates(data.train, query=query, candidate=candidate, length=200)
        kinds[past] = rr.features.Seen(candidate)
    else:
        past = "recent"
        rows = rr.data.with_recent_candidates(data.train, query=query, candidate=candidate, time=data.time, length=50)
        kinds[past] = rr.features.Recent(candidate, power=power)
    rr.core.seed_everything(seed)
    space = rr.FeatureSpace(kinds).fit(rows)
    model = rr.models.TwoTower(
        query=rr.models.Tower(space, data.query, layers=[128, 64], residual=past),
        candidate=rr.models.Tower(space, data.candidate, layers=[128, 64], residual=candidate),
        task=rr.tasks.Retrieval(temperature=temperature, log_q=True, remove_accidental_hits=True),
        negatives=rr.models.InBatchNegatives(remove_known_positives=past),
        normalize=True,
        tie_residuals=True,
    )
    loader = space.loader(rows, batch_size=1024, shuffle=True, seed=seed)
    model.fit(loader, optimizer=rr.optim.LazyAdam(lr=0.003), epochs=epochs, seed=seed, progress=False)
    return rr.Recommender(retrieval=model, space=space, catalogue=data.candidates, history=data.train, time=data.time)


def _arguments(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "kind"}


def configuration(data: Data, seed: int) -> dict[str, Any]:
    """Return the configuration of `retrank config` with other files, columns and features, and nothing else changed."""
    command = [sys.executable, "-m", "retrank", "config"]
    config = tomllib.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    config["seed"] = seed
    config["data"] = {
        "interactions": "train.parquet", "test": "test.parquet", "candidates": "candidates.parquet",
        "query": data.query[0], "candidate": data.candidate[0], "history": config["data"]["history"],
        **({} if data.time is None else {"time": data.time}),
    }  # fmt: skip
    del config["split"]["test"]
    history = {**config["features"]["history"], "of": data.candidate[0]}
    config["features"] = {**data.features, "history": history}
    config["retrieval"] |= {
        "query": data.query, "candidate": data.candidate, "candidate_residual": data.candidate[0],
    }  # fmt: skip
    config["ranking"]["features"] = [*data.query[1:], *data.candidate]
    for name in ("crosses", "show"):
        config.pop(name)
    return config


def as_toml(content: Mapping[str, Any], prefix: str = "") -> str:
    """Write text, numbers and lists of them, and tables of these."""
    own = [f"{name} = {value!r}" for name, value in content.items() if not isinstance(value, Mapping)]
    tables = [
        f"\n[{prefix}{name}]\n{as_toml(value, f'{prefix}{name}.')}"
        for name, value in content.items()
        if isinstance(value, Mapping)
    ]
    return "\n".join([*own, *tables])


def configured(data: Data, seed: int) -> rr.Recommender:
    """Train as `retrank train` does with that configuration."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data.train.write_parquet(folder / "train.parquet")
        data.test.write_parquet(folder / "test.parquet")
        data.candidates.write_parquet(folder / "candidates.parquet")
        (folder / "my.toml").write_text(as_toml(configuration(data, seed)), encoding="utf-8")
        command = [sys.executable, "-m", "retrank", "train", "my.toml", "--out", "bundle", "--json"]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return rr.Recommender.load(folder / "bundle")


def compare(data: Data, systems: Mapping[str, Any], reference: str | None = None) -> rr.evaluation.Report:
    """Rank all candidates for the queries of the test part."""
    query, candidate = data.query[0], data.candidate[0]
    return rr.evaluate(
        systems, data.train, data.test, ks=[10], metrics=["ndcg", "recall"], query=query, candidate=candidate,
        time=data.time, reference=reference, progress=False,
    )  # fmt: skip


def best(data: Data, systems: Mapping[str, Any]) -> str:
    """Return the system with the best NDCG on the test part."""
    report = compare(data, systems)
    return max(systems, key=lambda name: report.value(name, "ndcg@10"))


def tuned_ease(validation: Data) -> rr.baselines.EASE:
    """Choose the penalty, and with times how fast a history fades."""
    decays = (0.0,) if validation.time is None else (0.0, *DECAYS)
    query, candidate = validation.query[0], validation.candidate[0]
    tried = {}
    for l2 in PENALTIES:
        fitted = rr.baselines.EASE(l2).fit(
            validation.train, query=query, candidate=candidate, time=validation.time, progress=False
        )
        for decay in decays:  # which is a matter of scoring alone
            tried[f"{l2} {decay}"] = copy.copy(fitted)
            tried[f"{l2} {decay}"].decay = decay
    chosen = tried[best(validation, tried)]
    return rr.baselines.EASE(chosen.l2, chosen.decay)


def tuned_settings(validation: Data) -> dict[str, Any]:
    """Choose settings of the README's program."""
    tried = {str(each): each for each in SEARCHED if validation.time is not None or "power" not in each}
    return tried[best(validation, {name: readme(validation, 0, **each) for name, each in tried.items()})]


def print_table(data: Data, systems: Mapping[str, Any], reference: str) -> None:
    """Print means, and differences to the tuned EASE with 95% intervals."""
    report = compare(data, systems, reference)
    head = [f"{metric}{what}" for metric in METRICS for what in ("", ", difference to tuned EASE")]
    print("|", " | ".join(["system", *head]), f"|\n|{'---|' * (len(head) + 1)}")
    for name in systems:
        cells = []
        for metric in METRICS:
            mean, *difference = (
                report.value(name, metric, field)
                for field in ("mean", "difference", "difference_low", "difference_high")
            )
            cells += [f"{mean:.4f}", "" if name == reference else "{:+.4f} ({:+.4f} to {:+.4f})".format(*difference)]
        print("|", " | ".join([name, *cells]), "|", flush=True)


def main(name: str, seeds: int, *, quick: bool = False, folder: Path | None = None) -> None:
    """Print a Markdown table of one data set."""
    folder = Path(os.environ.get("RETRANK_DATA", ".")) if folder is None else folder
    try:
        data = DATA[name](folder)
    except FileNotFoundError as error:
        print(f"{name}: skipped, there is no {error.filename}; RETRANK_DATA names the folder")
        return
    validation = data.validation()
    ease = tuned_ease(validation)
    tuned = f"EASE, tuned (l2 {ease.l2:g}, decay {ease.decay:g})"
    systems: dict[str, Any] = {
        "popularity": rr.baselines.Popularity(),
        "item-kNN": rr.baselines.ItemKNN(),
        "EASE, default": rr.baselines.EASE(),
        tuned: ease,
        "README": [readme(data, seed) for seed in range(seeds)],
    }
    bundles = [configured(data, seed) for seed in range(seeds)]
    systems["retrank train, two-tower"] = [bundle.without_ranking() for bundle in bundles]
    systems["retrank train, two-stage"] = bundles
    if not quick:
        settings = tuned_settings(validation)
        label = ", ".join(f"{key} {value}" for key, value in settings.items()) or "the defaults"
        systems[f"README, tuned ({label})"] = [readme(data, seed, **settings) for seed in range(seeds)]
    print_table(data, systems, tuned)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="movielens-last", choices=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without settings that are searched")
    arguments = parser.parse_args()
    main(arguments.data, arguments.seeds, quick=arguments.quick)
