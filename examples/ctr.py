"""Predict clicks from ids alone: ranking models with their defaults, tuned, and without what makes them good at it.

Run:  python examples/ctr.py --seeds 3        (about 15 minutes on one thread)
Data: MovieLens-100K as impressions, where 4 stars and 5, or 5 alone, are a click, cut at random or by time; and three
invented sets of 86,000 rows whose click rates are known: of single ids, of pairs too, and of pairs with less to learn.
All have ten categorical fields. 70% of the rows train, 10% choose when to stop and the settings of what is tuned, and
20% test.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import torch
from torch import Tensor

import retrank as rr

FIELDS = {  # of the invented sets: keys, and how much their rates differ
    "user": (12_000, 0.5), "site": (3000, 0.5), "ad": (2000, 0.4), "campaign": (400, 0.3), "device": (150, 0.2),
    "category": (60, 0.3), "region": (40, 0.2), "hour": (24, 0.2), "position": (7, 0.4), "kind": (3, 0.3),
}  # fmt: skip
PAIRS = {
    ("category", "region"): 0.5, ("device", "category"): 0.5, ("hour", "category"): 0.4, ("position", "site"): 0.4,
    ("ad", "region"): 0.4,
}  # fmt: skip
Clicks = tuple[pl.DataFrame, np.ndarray | None]
"""Rows with a `label`, in the order of time if they have one, and the true rate of each if it is known."""


def movielens(stars: int) -> Clicks:
    """Ratings as impressions, in the order of time."""
    ratings = rr.datasets.movielens_100k().interactions.sort("timestamp", maintain_order=True)
    time = pl.from_epoch(ratings["timestamp"].cast(pl.Int64))
    return ratings.select(
        "user_id", "movie_id", "gender", "occupation",
        age=pl.col("age").cast(pl.Int64) // 5, zip3=pl.col("zip_code").cast(pl.String).str.head(3),
        genre=pl.col("genres").list.first().fill_null("none"), years=pl.col("year").cast(pl.Int64).fill_null(0) // 3,
        hour=time.dt.hour(), weekday=time.dt.weekday(), label=(pl.col("rating") >= stars).cast(pl.Float32),
    ), None  # fmt: skip


def invented(pairs: bool, strength: float, seed: int, num_rows: int = 86_000, rate: float = 0.09) -> Clicks:
    """Heavy-tailed ids; the log-odds of a click are a sum over ids and, with `pairs`, over products of vectors."""
    rng = np.random.default_rng(seed)
    keys, log_odds = {}, np.zeros(num_rows)
    for field, (num_keys, spread) in FIELDS.items():
        share = np.arange(1, num_keys + 1) ** (-0.9 if num_keys > 100 else -0.5)
        keys[field] = rng.permutation(num_keys)[rng.choice(num_keys, num_rows, p=share / share.sum())]
        log_odds += strength * spread * rng.normal(size=num_keys)[keys[field]]
    for (one, other), spread in PAIRS.items() if pairs else ():
        first, second = (rng.normal(size=(FIELDS[field][0], 3))[keys[field]] for field in (one, other))
        log_odds += strength * spread * (first * second).sum(axis=1) / 3**0.5
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(log_odds + middle).mean() > rate else (middle, high)
    rates = _sigmoid(log_odds + low)
    return pl.DataFrame({**keys, "label": (rng.random(num_rows) < rates).astype(np.float32)}), rates


DATA: dict[str, tuple[Callable[[], Clicks], bool]] = {  # and whether it is split by time
    "4 stars": (lambda: movielens(4), False),
    "5 stars": (lambda: movielens(5), False),
    "5 stars, by time": (lambda: movielens(5), True),
    "ids": (lambda: invented(pairs=False, strength=1.0, seed=0), False),
    "pairs": (lambda: invented(pairs=True, strength=1.0, seed=0), False),
    "weak pairs": (lambda: invented(pairs=True, strength=0.7, seed=6), False),
}


@dataclass(eq=False)
class Split:
    """Rows to train on, to choose by and to test on."""

    space: rr.FeatureSpace
    fields: list[str]
    train: rr.Batch
    validation: rr.Batch
    test: rr.Batch
    rates: np.ndarray | None


def split(name: str) -> Split:
    """Make a data set of `DATA`, and cut it."""
    make, by_time = DATA[name]
    rows, rates = make()
    order = np.arange(len(rows)) if by_time else np.random.default_rng(42).permutation(len(rows))
    parts = np.split(order, [int(0.7 * len(rows)), int(0.8 * len(rows))])
    fields = [column for column in rows.columns if column != "label"]
    kinds = {field: rr.features.Categorical() for field in fields}
    space = rr.FeatureSpace({**kinds, "label": rr.features.Passthrough()}).fit(rows[parts[0]])
    columns = (space.transform(rows[part]) for part in parts)
    return Split(space, fields, *columns, None if rates is None else rates[parts[2]])


def tables(data: Split) -> rr.EmbeddingCollection:
    """A vector for every id."""
    return rr.EmbeddingCollection({field: rr.EmbeddingTable(data.space.schema[field], 16) for field in data.fields})


def dcn_v2(tables: rr.EmbeddingCollection, **settings: float) -> rr.models.Ranking:
    """DCN-v2 with a weight for every id, as DeepFM has it."""
    return rr.models.dcn_v2(tables, linear=tables.linear_terms(), **settings)


MODELS: dict[str, Callable[..., rr.models.Ranking]] = {"DCN-v2": dcn_v2, "DeepFM": rr.models.deepfm}
GRID = [{}, {"dropout": 0.3}, {"id_l2": 300.0}]
"""What is tried for a tuned model; the first are the defaults."""


@cache
def learn(
    data: Split,
    model: str,
    seed: int,
    *,
    epochs: int = 15,
    optimizer: rr.optim.OptimizerSpec | None = None,
    **settings: float,
) -> tuple[float, Tensor]:
    """Train until validation says enough; return the log loss there, and the predicted rates of the test rows."""
    rr.core.seed_everything(seed)
    ranking = MODELS[model](tables(data), **settings)
    history = ranking.fit(
        rr.data.Loader(data.train, batch_size=1024, shuffle=True, seed=seed),
        optimizer=optimizer,
        epochs=epochs,
        validation=rr.data.Loader(data.validation, batch_size=8192),
        callbacks=[rr.training.EarlyStopping(patience=2)],
        seed=seed,
        progress=False,
    )
    best = history.best("val_loss")["val_loss"]
    return best, ranking.predict(rr.data.Loader(data.test, batch_size=8192)).sigmoid()


def logistic_regression(data: Split, penalty: float) -> tuple[float, Tensor]:
    """One weight an id and a constant, penalty · Σw² beside the sum of the losses; as `learn`."""
    sizes = [data.space.schema[field].num_ids for field in data.fields]
    starts = np.cumsum([0, *sizes[:-1]])

    def places(batch: rr.Batch) -> Tensor:
        columns = [batch[field] + int(start) for field, start in zip(data.fields, starts, strict=True)]
        return torch.stack(columns, dim=1)

    rows, labels = places(data.train), data.train["label"].double()
    rate = labels.mean()
    curvature = torch.bincount(rows.flatten(), minlength=sum(sizes)) * rate * (1 - rate) + 2 * penalty
    scale = curvature.rsqrt()  # of equally curved weights L-BFGS needs few steps
    weights, constant = torch.zeros(sum(sizes), dtype=torch.float64), torch.logit(rate).reshape(1)
    optimizer = torch.optim.LBFGS([weights, constant], max_iter=100, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def logits(rows: Tensor) -> Tensor:
        return (weights * scale)[rows].sum(dim=1) + constant

    def loss() -> Tensor:
        found = logits(rows)
        total = torch.nn.functional.binary_cross_entropy_with_logits(found, labels, reduction="sum")
        excess = found.sigmoid() - labels
        by_id = torch.bincount(rows.flatten(), excess.repeat_interleave(rows.shape[1]), minlength=sum(sizes))
        weights.grad = (by_id + 2 * penalty * weights * scale) * scale / len(labels)
        constant.grad = excess.mean()[None]
        return (total + penalty * (weights * scale).square().sum()) / len(labels)

    with torch.no_grad():
        optimizer.step(loss)
        chosen, tested = (logits(places(batch)).sigmoid() for batch in (data.validation, data.test))
    return _losses(chosen, data.validation["label"]).mean().item(), tested


def floors(data: Split) -> dict[str, Tensor]:
    """The rate of clicks, and the logistic regression that validation likes best."""
    everyone = data.train["label"].double().mean().expand(len(data.test))
    runs = [logistic_regression(data, penalty) for penalty in (0.2, 0.5, 1.5, 5.0, 15.0)]
    return {"rate of clicks": everyone, "logistic regression": min(runs, key=lambda run: run[0])[1]}


def tuned(data: Split, model: str, epochs: int) -> dict[str, float]:
    """Choose the settings that validation likes best, with one seed; the defaults are among them."""
    return min(GRID, key=lambda settings: learn(data, model, 0, epochs=epochs, **settings)[0])


def report(name: str, seeds: int, epochs: int, models: tuple[str, ...]) -> None:
    """Print the rows of one data set."""
    data = split(name)
    found = floors(data)
    regression = _losses(found["logistic regression"], data.test["label"])
    for floor, rates in found.items():
        _print(name, floor, [rates], data, regression)
    last = models[-1]
    variants = {model: (model, {}) for model in models}
    variants |= {
        f"{last}, tuned": (last, tuned(data, last, epochs)),
        f"{last}, no penalty": (last, {"id_l2": 0.0, "linear_l2": 0.0}),
        f"{last}, one learning rate": (last, {"optimizer": rr.optim.LazyAdam()}),
    }
    for variant, (model, settings) in variants.items():
        runs = [learn(data, model, seed, epochs=epochs, **settings)[1] for seed in range(seeds)]
        _print(name, variant, runs, data, regression)
    if data.rates is not None:
        _print(name, "the true rates", [torch.from_numpy(data.rates)], data, regression)


def _print(name: str, system: str, runs: list[Tensor], data: Split, regression: Tensor) -> None:
    labels = data.test["label"]
    losses = torch.stack([_losses(rates, labels) for rates in runs])
    each = losses.mean(dim=1).tolist()
    difference = rr.evaluation.bootstrap((losses.mean(dim=0) - regression)[:, None], num_resamples=1000)
    interval = f"{difference.mean[0]:+.4f} ({difference.low[0]:+.4f} to {difference.high[0]:+.4f})"
    measures = [_measure(metric, runs, labels) for metric in (rr.metrics.AUC, rr.metrics.CalibrationError)]
    loss = f"{statistics.mean(each):.4f} ± {statistics.pstdev(each):.4f}" if len(each) > 1 else f"{each[0]:.4f}"
    cells = [name, system, loss, "" if system == "logistic regression" else interval]
    print("| " + " | ".join([*cells, *(f"{value:.4f}" for value in measures)]) + " |", flush=True)


def _measure(kind: Callable[[], rr.metrics.Metric], runs: list[Tensor], labels: Tensor) -> float:
    values = []
    for rates in runs:
        metric = kind()
        metric.update(rates, labels)
        values.append(metric.compute().item())
    return statistics.mean(values)


def _losses(rates: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy(
        rates.double().clamp(1e-7, 1 - 1e-7), labels.double(), reduction="none"
    )


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def main(
    seeds: int, epochs: int = 15, names: tuple[str, ...] = tuple(DATA), models: tuple[str, ...] = tuple(MODELS)
) -> None:
    """Print a Markdown table."""
    print("| data | model | log loss, mean ± std | beside logistic regression (95%) | AUC | calibration error |")
    print("|---|---|---|---|---|---|")
    for name in names:
        report(name, seeds, epochs, models)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    arguments = parser.parse_args()
    main(arguments.seeds, names=tuple(arguments.data), models=tuple(arguments.models))
