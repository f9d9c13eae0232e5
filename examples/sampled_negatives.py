"""Which negatives? The samplers and losses of `RetrievalScorer`, against a softmax over all movies.

Run:  python examples/sampled_negatives.py --seeds 3        (about four minutes)
Data: MovieLens-100K, the split and the measure of basic_retrieval.py: the share of the 20,000 test rows whose movie is
among the k best of all 1,682 movies, with the movies of the user's training rows kept in the list, or taken out.
One factorization, trained for four epochs in batches of 500: what changes is only what a positive competes with, and
how. The system is the `ItemRetrievalScorer` of NVIDIA Merlin; the second table shows what its options do to one batch.
The penalties of the losses were chosen on a tenth of the training rows, never on the test rows.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from torch import Tensor

import retrank as rr

KS = (10, 100)
EPOCHS, BATCH, DIM = 4, 500, 32
SEEN = ("kept", "excluded")
Shares = dict[tuple[str, int], float]
Loss = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class MovieTable:
    """The movies of a factorization, bias included, by id: what samplers look up."""

    factorization: rr.models.MatrixFactorization

    @property
    def num_ids(self) -> int:
        """The number of ids, padding and unknown included."""
        return self.factorization.candidate.num_ids

    def __call__(self, ids: Tensor) -> Tensor:
        """Embed `(n,)` ids as `(n, dim)`."""
        return self.factorization.candidate_embeddings(rr.Batch({"movie_id": ids}))


class SampledFactorization(rr.Model):
    """A factorization whose positives compete with what samplers draw."""

    def __init__(
        self,
        factorization: rr.models.MatrixFactorization,
        scorer: rr.tasks.RetrievalScorer,
        loss: Loss,
        *,
        output_l2: float,
    ) -> None:
        super().__init__()
        self.factorization, self.scorer, self.loss, self.output_l2 = factorization, scorer, loss, output_l2
        self.movies = MovieTable(factorization)

    def score(self, batch: rr.Batch, *, training: bool) -> rr.tasks.ScorerOutput:
        """Score each row's positive, in column 0, and the drawn negatives."""
        queries = self.factorization.query_embeddings(batch)
        return self.scorer(queries, features=batch, table=self.movies, training=training, testing=not training)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> Tensor:
        """Compare, and keep the vectors short."""
        output = self.score(batch, training=training)
        vectors = self.factorization.query_embeddings(batch), self.movies(batch["movie_id"])
        penalty = sum(each.square().sum(dim=1).mean() for each in vectors)
        return self.loss(output.scores, output.valid_negatives) + self.output_l2 * penalty


def per_row(loss: Callable[..., Tensor]) -> Loss:
    """Add up a row's entries: losses whose weights add up to 1 in a row get small in a mean over entries."""
    return lambda scores, valid: loss(scores, valid, reduction="none").sum(dim=1).mean()


@dataclass(frozen=True)
class Setting:
    """What positives compete with; samplers are built from the number of training rows of each movie."""

    negatives: str
    samplers: Callable[[np.ndarray], list[rr.sampling.Sampler]]
    corrected: str = ""
    loss_name: str = "cross entropy"
    loss: Loss = rr.losses.cross_entropy
    output_l2: float = 0.04
    downscore: bool = True


def in_batch(counts: np.ndarray) -> list[rr.sampling.Sampler]:
    """The other positives of the batch."""
    return [rr.sampling.InBatch(counts=counts)]


def learned(counts: np.ndarray) -> list[rr.sampling.Sampler]:
    """The same, where nobody has counted: how often a movie comes is learned from the batches as they pass."""
    frequency = rr.sampling.StreamingFrequency(10 * len(counts), num_hashes=2)
    return [rr.sampling.InBatch(frequency=frequency)]


def with_earlier(counts: np.ndarray) -> list[rr.sampling.Sampler]:
    """The batch, and the positives of the two batches before, as they were embedded then."""
    return [*in_batch(counts), rr.sampling.CrossBatch(2 * BATCH, counts=counts)]


def uniform(_: np.ndarray) -> list[rr.sampling.Sampler]:
    """A hundred of all movies."""
    return [rr.sampling.Uniform(100)]


def popular(counts: np.ndarray) -> list[rr.sampling.Sampler]:
    """A hundred movies, drawn as often as they are rated."""
    return [rr.sampling.Popularity(100, counts=counts)]


def mixed(counts: np.ndarray) -> list[rr.sampling.Sampler]:
    """The batch and a hundred of all movies."""
    return [*in_batch(counts), rr.sampling.Uniform(100)]


SETTINGS = [
    Setting("the batch", in_batch, "no"),
    Setting("the batch", in_batch, "by counts"),
    Setting("the batch", learned, "as learned"),
    Setting("the batch, false negatives too", in_batch, "by counts", downscore=False),
    Setting("the batch and the two before", with_earlier, "by counts"),
    Setting("the batch and 100 uniform", mixed, "by counts"),
    Setting("100 popular", popular, "no", output_l2=0.02),
    Setting("100 popular", popular, "by counts", output_l2=0.02),
    Setting("100 uniform", uniform, output_l2=0.02),
    Setting("100 uniform", uniform, "", "BPR", rr.losses.bpr, 0.003),
    Setting("100 uniform", uniform, "", "BPR-max", per_row(partial(rr.losses.bpr_max, l2=0.0)), 0.1),
    Setting("100 uniform", uniform, "", "TOP1-max", per_row(rr.losses.top1_max), 0.01),
    Setting("100 uniform", uniform, "", "hinge", rr.losses.hinge, 0.01),
]


@dataclass(frozen=True)
class Data:
    """Training rows and test rows, the latter with what each user has seen."""

    train: pl.DataFrame
    space: rr.FeatureSpace
    movies: rr.features.Catalogue
    test: pl.DataFrame
    test_batches: rr.data.Loader

    def factorization(self, **arguments: object) -> rr.models.MatrixFactorization:
        """Build the model that all settings share."""
        schema = self.space.schema
        task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=KS, metrics=("hit_rate",))])
        return rr.models.MatrixFactorization(
            schema["user_id"], schema["movie_id"], task, dim=DIM, catalogue=self.movies, **arguments
        )

    def fit(self, model: rr.Model, seed: int, epochs: int) -> None:
        """Train; the learning rate falls to zero."""
        batches = self.space.loader(self.train, BATCH, shuffle=True, seed=seed, features=["user_id", "movie_id"])
        schedule = rr.training.linear_decay(epochs * len(batches))
        optimizer = rr.optim.LazyAdam(lr=0.02)
        model.fit(batches, optimizer=optimizer, schedule=schedule, epochs=epochs, seed=seed, progress=False)

    def shares(self, model: rr.models.MatrixFactorization) -> Shares:
        """Rank all movies for the user of each test row."""
        runs = {
            "kept": model.evaluate(self.test_batches, exclude=False),
            "excluded": model.evaluate(self.test_batches, exclude="seen"),
        }
        return {(seen, k): run[f"hit_rate@{k}"] for seen, run in runs.items() for k in KS}


def read() -> Data:
    """Read and split the ratings, every one of them a positive."""
    movielens = rr.datasets.movielens_100k()
    train, test = rr.data.random_split(movielens.interactions, test_size=20_000, seed=42)
    kinds = {"user_id": rr.features.Categorical(), "movie_id": rr.features.Categorical()}
    space = rr.FeatureSpace(kinds).fit(train)
    movies = space.catalogue(movielens.candidates, key="movie_id")
    seen = rr.features.History(train, movies, query="user_id")[test["user_id"]]
    batches = rr.data.Loader(space.transform(test).merge({"seen": seen}), batch_size=4096)
    return Data(train, space, movies, test, batches)


def full_softmax(data: Data, seed: int, epochs: int) -> rr.models.MatrixFactorization:
    """Train against all movies: what sampling saves the time of."""
    rr.core.seed_everything(seed)
    model = data.factorization(negatives="catalogue", output_l2=0.04)
    data.fit(model, seed, epochs)
    return model


def sampled(data: Data, setting: Setting, seed: int, epochs: int) -> SampledFactorization:
    """Train against what a setting draws."""
    rr.core.seed_everything(seed)
    scorer = rr.tasks.RetrievalScorer(
        setting.samplers(data.space.vocabulary("movie_id").counts),
        sampled_softmax=True,  # candidates are rows of the table: the input is queries alone
        candidate_id="movie_id",
        log_q=setting.corrected in ("by counts", "as learned"),
        downscore_false_negatives=setting.downscore,
        cache_queries=True,
    )
    model = SampledFactorization(data.factorization(), scorer, setting.loss, output_l2=setting.output_l2)
    data.fit(model, seed, epochs)
    return model


def shares_of_popularity(data: Data) -> Shares:
    """Recommend to everyone what most have rated."""
    baseline = rr.baselines.Popularity()
    baseline.fit(data.train.select("user_id", "movie_id"))
    shares = {}
    for seen in SEEN:
        users = data.test.select("user_id").unique()
        lists = baseline.recommend_many(users, k=max(KS), exclude_seen=seen == "excluded")
        found = data.test.join(lists, on=["user_id", "movie_id"])
        shares |= {(seen, k): found.filter(pl.col("rank") <= k).height / data.test.height for k in KS}
    return shares


def print_row(cells: Sequence[str], runs: list[Shares]) -> None:
    """Print the means, and the spread of the top-100 shares."""
    values = []
    for seen in SEEN:
        for k in KS:
            each = [run[seen, k] for run in runs]
            spread = f" ± {statistics.pstdev(each):.4f}" if k == max(KS) and len(each) > 1 else ""
            values.append(f"{statistics.mean(each):.4f}{spread}")
    print("|", " | ".join([*cells, *values]), "|", flush=True)


def print_options(data: Data, model: SampledFactorization) -> None:
    """Show what the scorer's options do to one batch; the model is one that negatives of its batch have trained."""
    batch = data.space.transform(data.train.tail(BATCH))
    print("\n| option | scores | false negatives a row | their weight in the softmax |\n|---|---|---|---|")
    options: dict[str, dict[str, object]] = {
        "`false_negative_score=None`, which is -inf": {},
        "`false_negative_score=0.0`": {"false_negative_score": 0.0},
        "`downscore_false_negatives=False`": {"downscore_false_negatives": False},
    }
    for name, given in options.items():
        model.scorer = rr.tasks.RetrievalScorer(
            in_batch(data.space.vocabulary("movie_id").counts),
            sampled_softmax=True,
            candidate_id="movie_id",
            log_q=True,
            cache_queries=True,
            **given,
        )
        output = model.score(batch, training=False)
        is_false = batch["movie_id"][:, None] == batch["movie_id"]
        weight = (output.scores.softmax(dim=1)[:, 1:] * is_false).sum(dim=1).mean()
        print(f"| {name} | {tuple(output.scores.shape)} | {is_false.sum(dim=1).float().mean():.2f} | {weight:.4f} |")
    queries = model.factorization.query_embeddings(batch)
    shape = tuple(model.scorer(queries, table=model.movies).scores.shape)
    print(f"| `sampled_softmax=True` at inference: every id | {shape} | | |")
    index = model.factorization.build_index()
    found = index.search_rows(model.scorer.cached_queries, max(KS)).rows
    hits = (found == data.movies.rows(data.train.tail(BATCH)["movie_id"])[:, None]).any(dim=1).float().mean()
    print(f"\nBy the cached queries, {hits:.1%} of that batch have their movie among the {max(KS)} best.")


def main(seeds: int, epochs: int = EPOCHS, settings: Sequence[Setting] = SETTINGS) -> None:
    """Print two Markdown tables and a sentence."""
    data = read()
    spread = ", mean ± std" if seeds > 1 else ""
    tops = [f"{seen}, top-{k}{spread if k == max(KS) else ''}" for seen in SEEN for k in KS]
    print("|", " | ".join(["negatives", "corrected", "loss", *tops]), f"|\n|{'---|' * (3 + len(tops))}")
    print_row(["popularity", "", ""], [shares_of_popularity(data)])
    runs = [data.shares(full_softmax(data, seed, epochs)) for seed in range(seeds)]
    print_row(["all movies", "", "cross entropy"], runs)
    of_the_batch = None
    for setting in settings:
        models = [sampled(data, setting, seed, epochs) for seed in range(seeds)]
        runs = [data.shares(model.factorization) for model in models]
        print_row([setting.negatives, setting.corrected, setting.loss_name], runs)
        if setting.samplers is in_batch and setting.corrected == "by counts" and of_the_batch is None:
            of_the_batch = models[0]
    if of_the_batch is not None:
        print_options(data, of_the_batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
