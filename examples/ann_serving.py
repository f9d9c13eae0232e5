"""Serve a two-tower model with approximate indexes: what they miss, how fast they are and what they cost.

Run:  OMP_NUM_THREADS=1 python examples/ann_serving.py                 (about eight minutes)
      OMP_NUM_THREADS=1 python examples/ann_serving.py --million       (and a million candidates: much longer)
Needs pip install "retrank[ann]".
Data: MovieLens-100K with the split and the two-tower model of basic_retrieval.py, and a larger invented catalogue of
64 numbers a candidate, in a thousand clusters.
The story is that of the tutorial "Efficient serving" of TensorFlow Recommenders: index the candidates of a trained
model approximately, measure recall, speed and what is left of the accuracy, and save all of it as one product. Every
index is measured as it comes back from disk. The indexes take turns in rounds, and times are medians over all rounds.
They are processor times, which other work on the machine hardly disturbs; those of several threads add up.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faiss
import polars as pl
import torch
from basic_retrieval import feature_space, two_tower

import retrank as rr

K = 100
"""How many candidates a timed search returns."""
BATCH = 32
"""How many queries are searched at once, for the queries per second."""
BuildIndex = Callable[..., rr.index.Index]


@dataclass(frozen=True)
class Catalogue:
    """Candidates, what is asked of them, and what each query has seen."""

    embeddings: torch.Tensor
    keys: Iterable[str] | None
    queries: torch.Tensor
    seen: rr.Jagged


@dataclass(frozen=True)
class Served:
    """An index as it came back from disk, and what it took to get there."""

    index: rr.index.Index
    build_seconds: float
    megabytes: float


def structures(num_lists: int) -> dict[str, BuildIndex]:
    """Search everything; a part of the lists; a graph; a part of the lists with codes of 16 bytes; these, rescored."""
    effort = max(8, num_lists // 16)
    lists = partial(rr.index.Faiss, factory=f"IVF{num_lists},Flat", effort=effort)
    codes = partial(rr.index.Faiss, factory=f"IVF{num_lists},PQ16", effort=effort)
    return {
        "exact": rr.index.Exact,
        f"`IVF{num_lists},Flat`, effort {effort}": lists,
        "`HNSW32`, effort 128": partial(rr.index.Faiss, factory="HNSW32", effort=128),
        f"`IVF{num_lists},PQ16`, effort {effort}": codes,
        f"`IVF{num_lists},PQ16`, effort {effort}, rescore 4": partial(codes, rescore=4),
    }


def invented(num_candidates: int, *, num_clusters: int = 1000, num_queries: int = 1000, dim: int = 64) -> Catalogue:
    """Draw candidates and queries around the same centres; the lengths of candidates vary by a fifth."""
    generator = rr.core.generator(0, "invented")
    centres = torch.randn(num_clusters, dim, generator=generator)

    def around_centres(count: int) -> torch.Tensor:
        places = torch.randint(num_clusters, (count,), generator=generator)
        return centres[places] + 0.7 * torch.randn(count, dim, generator=generator)

    lengths = torch.exp(0.2 * torch.randn(num_candidates, 1, generator=generator))
    candidates = lengths * around_centres(num_candidates)
    return Catalogue(candidates, None, around_centres(num_queries), rr.Jagged.empty(num_queries))


def serve(catalogue: Catalogue, build: BuildIndex, folder: Path) -> Served:
    """Build, save and load an index, and check that it came back as it was."""
    start = time.process_time()
    built = build(catalogue.embeddings, catalogue.keys)
    seconds = time.process_time() - start
    built.save(folder)
    index = rr.index.load_index(folder)
    queries = catalogue.queries[:50]
    before, after = built.search_rows(queries, K), index.search_rows(queries, K)
    if not (torch.equal(before.rows, after.rows) and torch.equal(before.scores, after.scores)):
        raise RuntimeError(f"{folder} came back with other results")
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".parquet")
    return Served(index, seconds, size / 2**20)


def durations(index: rr.index.Index, catalogue: Catalogue, step: int, num_queries: int) -> list[float]:
    """Return the seconds of each search for the first queries, `step` queries at a time."""
    times = []
    for first in range(0, num_queries - step + 1, step):
        part = slice(first, first + step)
        start = time.process_time()
        index.search_rows(catalogue.queries[part], K, exclude=catalogue.seen[part])
        times.append(time.process_time() - start)
    return times


def compare(
    title: str,
    catalogue: Catalogue,
    served: Mapping[str, Served],
    rounds: int,
    accuracies: Mapping[str, float] | None = None,
) -> None:
    """Print a Markdown table of all indexes side by side."""
    together: dict[str, list[float]] = {name: [] for name in served}
    alone: dict[str, list[float]] = {name: [] for name in served}
    for _ in range(rounds):
        for name, each in served.items():
            together[name] += durations(each.index, catalogue, BATCH, len(catalogue.queries))
            alone[name] += durations(each.index, catalogue, 1, 100)
    columns = [title, "recall@10", "recall@100", "queries/s", "ms, one query", "MB", "build s"]
    columns += [] if accuracies is None else ["top-100 accuracy"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    exact = served["exact"].index
    for name, each in served.items():
        recalls = [each.index.evaluate(catalogue.queries, k, exact, exclude=catalogue.seen) for k in (10, K)]
        cells = [f"{recall:.3f}" for recall in recalls]
        cells += [f"{BATCH / statistics.median(together[name]):,.0f}", f"{1000 * statistics.median(alone[name]):.2f}"]
        cells += [f"{each.megabytes:.1f}", f"{each.build_seconds:.1f}"]
        cells += [] if accuracies is None else [f"{accuracies[name]:.4f}"]
        print("|", " | ".join([name, *cells]), "|", flush=True)


def accuracy(recommender: rr.Recommender, test: pl.DataFrame) -> float:
    """Return the share of the test rows whose movie is among the 100 of its user, seen movies excluded."""
    lists = recommender.recommend_many(test.select("user_id").unique(maintain_order=True), k=K)
    return test.join(lists, on=["user_id", "movie_id"]).height / test.height


def movielens(folder: Path, rounds: int, epochs: int) -> None:
    """Train, index the movies in every way, and serve the product with every index."""
    data = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(data.interactions, test_size=20_000, seed=42)
    space = feature_space(train)
    movies = space.catalogue(data.candidates, key="movie_id")
    rr.core.seed_everything(0)
    model = two_tower(space, movies, train, 0, epochs=epochs)

    users = test.unique("user_id", maintain_order=True)
    seen = rr.features.History(train, movies, query="user_id")[users["user_id"]]
    queries = model.embed_queries(space.transform(users, features=model.query_features))
    catalogue = Catalogue(model.embed_candidates(movies.batch), movies.keys, queries, seen)
    served = {
        name: serve(catalogue, build, folder / f"movies {place}")
        for place, (name, build) in enumerate(structures(num_lists=32).items())
    }
    accuracies = {}
    for name, each in served.items():
        recommender = rr.Recommender(
            model, space=space, catalogue=data.candidates, history=train, queries=users, index=each.index
        )
        recommender.save(folder / "bundle")
        accuracies[name] = accuracy(rr.Recommender.load(folder / "bundle"), test)
    compare(f"{len(movies):,} movies", catalogue, served, rounds, accuracies)


def main(num_candidates: list[int], rounds: int = 5, epochs: int = 8) -> None:
    """Print the tables, for the movies and for invented catalogues of these sizes."""
    threads = f"{torch.get_num_threads()} of torch, {faiss.omp_get_max_threads()} of Faiss"
    print(f"threads: {threads}; k = {K}, {BATCH} queries at a time")
    with tempfile.TemporaryDirectory() as directory:
        movielens(Path(directory), rounds, epochs)
        for number in num_candidates:
            catalogue, folder = invented(number), Path(directory) / f"{number}"
            folder.mkdir()
            num_lists = 2 ** round(math.log2(number) / 2)  # about the root of the number of candidates
            served = {
                name: serve(catalogue, build, folder / str(place))
                for place, (name, build) in enumerate(structures(num_lists).items())
            }
            compare(f"{number:,} invented", catalogue, served, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--million", action="store_true", help="invent a million candidates, too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    main([100_000, 1_000_000] if arguments.million else [100_000], arguments.rounds, arguments.epochs)
