"""One honest comparison: the same queries, the whole corpus, the same metrics for every system."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl
import torch
from torch import Tensor

from retrank.baselines import Baseline
from retrank.baselines.interactions import int64, query_and_candidate
from retrank.core.errors import ConfigError, DataError
from retrank.core.working import Working
from retrank.data.checks import require_columns, require_keys
from retrank.data.keys import KeyType, as_keys, key_type
from retrank.data.sources import TableLike, frame
from retrank.evaluation.recommends import Recommends
from retrank.evaluation.report import Report
from retrank.evaluation.significance import bootstrap
from retrank.metrics.ranking import average_precision, hit_rate, mrr, ndcg, precision, recall

__all__ = ["RANKING_METRICS", "evaluate", "per_query_metrics"]

_QUERIES: Final = 4096  # asked for at once, so that what a system makes on its way is bounded

RANKING_METRICS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "ndcg": ndcg,
    "recall": recall,
    "hit_rate": hit_rate,
    "precision": precision,
    "mrr": mrr,
    "map": average_precision,
}
"""Metric name to its function of a hit matrix and the number of relevant candidates."""


def evaluate(
    systems: Mapping[str, Recommends | Iterable[Recommends]],
    train: TableLike,
    test: TableLike,
    *,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = ("ndcg", "recall", "hit_rate", "precision", "mrr", "map"),
    query: str | None = None,
    candidate: str | None = None,
    time: str | None = None,
    exclude_seen: bool = True,
    reference: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Compare systems on what queries did after training, each ranking the whole corpus.

    Relevant for a query are its distinct test candidates, without those it has in `train` when seen ones are
    excluded; queries with none are left out, the same for every system. A relevant candidate that a system does not
    know counts as missed. A baseline that is not fitted is copied and the copy fitted on `train`; a fitted one is taken
    as it is. No system is changed. Systems are asked for some thousand queries at a time.

    Args:
        systems: name to system; a sequence is one system trained with several seeds, whose metrics are
            averaged for each query.
        train: interactions the systems were trained on.
        test: interactions that came later.
        ks: lengths of the lists.
        metrics: of `RANKING_METRICS`, each at every k.
        query: the column of query keys; the first of `train` by default.
        candidate: the column of candidate keys; the second of `train` by default.
        time: the column of times in `train`, for baselines that weigh recent interactions more.
        exclude_seen: recommend only what the query does not have in `train`.
        reference: the system the others are tested against; the first by default.
        seed: of the bootstrap.
        progress: whether to show on a terminal how many queries are answered.

    Returns:
        Means with 95% intervals over queries, and paired differences to the reference with p-values.

    Raises:
        ConfigError: no systems, or one that does not recommend; an unknown metric or reference, or a k below 1.
        DataError: the keys of both tables are not of one type, no query of `test` has a relevant candidate, or a system
            returned repeated or seen candidates.

    Example:
        >>> import polars as pl, retrank as rr
        >>> train = pl.DataFrame({"user": list("aabbc"), "song": list("xyxyx")})
        >>> test = pl.DataFrame({"user": ["c"], "song": ["y"]})
        >>> systems = {"popularity": rr.baselines.Popularity(), "ease": rr.baselines.EASE(l2=1.0)}
        >>> rr.evaluate(systems, train, test, ks=[1]).value("ease", "recall@1")
        1.0
    """
    train_table, test_table = frame(train), frame(test)
    query, candidate = query_and_candidate(train_table, query, candidate)
    _check(systems, ks, metrics, reference)
    all_runs = {name: _runs(system, f"system '{name}' of evaluate") for name, system in systems.items()}
    types = {name: key_type(train_table[name]) for name in (query, candidate)}
    seen = _keys(train_table, types, "train").unique()
    relevant = _relevant(_keys(test_table, types, "test"), seen if exclude_seen else None, query, candidate)
    queries = relevant.select(query).unique(maintain_order=True)
    asked = queries.cast({query: test_table.schema[query]})
    names = [f"{metric}@{k}" for k in ks for metric in metrics]
    values: dict[str, Tensor] = {}
    seed_means: dict[str, Tensor] = {}
    for name, runs in all_runs.items():
        tables = []
        for run in runs:
            if isinstance(run, Baseline) and not run.is_fitted:
                run = copy.copy(run).fit(train_table, query=query, candidate=candidate, time=time, progress=progress)
            parts = []
            with Working(f"{name}: queries", len(asked), enabled=progress) as work:
                for some in asked.iter_slices(_QUERIES):
                    part = run.recommend_many(some, max(ks), exclude_seen=exclude_seen)
                    parts.append(_keys_and_ranks(part, f"lists of system '{name}'", types))
                    work.advance(len(some))
            lists = pl.concat(parts, how="vertical_relaxed")
            lists = _checked(lists, f"lists of system '{name}'", max(ks), seen if exclude_seen else None)
            tables.append(per_query_metrics(lists, relevant, query, candidate, ks, metrics))
        stacked = torch.stack(tables)
        values[name], seed_means[name] = stacked.mean(dim=0), stacked.mean(dim=1)
    return _report(values, seed_means, names, reference or next(iter(systems)), len(queries), seed)


def per_query_metrics(
    lists: pl.DataFrame,
    relevant: pl.DataFrame,
    query: str,
    candidate: str,
    ks: Sequence[int],
    metrics: Sequence[str],
) -> Tensor:
    """Compute metrics of each query's list.

    Args:
        lists: the query key, the candidate key and `rank` (from 1).
        relevant: distinct pairs of query and candidate key.
        query: the column of query keys.
        candidate: the column of candidate keys.
        ks: lengths of the lists.
        metrics: of `RANKING_METRICS`.

    Returns:
        `(queries, len(ks) * len(metrics))` float64: queries in order of first appearance in `relevant`, columns by k
        and then by metric.

    Example:
        >>> import polars as pl, retrank as rr
        >>> lists = pl.DataFrame({"user": ["a", "a"], "song": ["x", "y"], "rank": [1, 2]})
        >>> relevant = pl.DataFrame({"user": ["a"], "song": ["y"]})
        >>> rr.evaluation.per_query_metrics(lists, relevant, "user", "song", [2], ["recall", "mrr"]).tolist()
        [[1.0, 0.5]]
    """
    counts = relevant.group_by(query, maintain_order=True).len("relevant").with_row_index("row")
    found = lists.join(relevant, on=[query, candidate], how="semi").join(counts, on=query)
    hits = torch.zeros(len(counts), max(ks), dtype=torch.bool)
    hits[int64(found["row"]), int64(found["rank"]) - 1] = True
    num_relevant = int64(counts["relevant"])
    columns = [RANKING_METRICS[metric](hits[:, :k], num_relevant) for k in ks for metric in metrics]
    return torch.stack(columns, dim=1)


def _runs(system: Any, where: str) -> list[Recommends]:
    is_one = isinstance(system, Recommends | type) or not isinstance(system, Iterable)
    runs: list[Any] = [system] if is_one else list(system)
    for run in runs:
        if isinstance(run, type) or not isinstance(run, Recommends):
            raise ConfigError(
                "something with recommend_many, or a sequence of such",
                f"the class {run.__name__}" if isinstance(run, type) else f"a {type(run).__name__}",
                where,
                f"write {run.__name__}()" if isinstance(run, type) else "build a Recommender of a trained model first",
            )
    if not runs:
        raise ConfigError("one system or several seeds of it", "none", where)
    return runs


def _keys(table: pl.DataFrame, types: Mapping[str, KeyType], where: str) -> pl.DataFrame:
    """Return the key columns, of one dtype for each type, so that keys of all tables can be compared."""
    for name, expected in types.items():
        require_keys(table, name, where)
        if (found := key_type(table[name])) != expected:
            raise DataError(
                f"{expected} keys, as in train",
                f"{found} keys ({table.schema[name]})",
                f"column '{name}' of {where}",
                "cast the column of one of them",
            )
    return table.select(as_keys(table[name], expected, "error") for name, expected in types.items())


def _relevant(test: pl.DataFrame, seen: pl.DataFrame | None, query: str, candidate: str) -> pl.DataFrame:
    pairs = test.unique(maintain_order=True)
    if seen is not None:
        pairs = pairs.join(seen, on=[query, candidate], how="anti", maintain_order="left")
    if pairs.is_empty():
        raise DataError("test interactions that are not in train", "none", "evaluate")
    return pairs


def _check(systems: Mapping[str, object], ks: Sequence[int], metrics: Sequence[str], reference: str | None) -> None:
    if not isinstance(systems, Mapping):
        raise ConfigError("systems by name", type(systems).__name__, "systems", 'pass e.g. {"ease": EASE()}')
    for name, values, example in (("ks", ks, "(10, 20)"), ("metrics", metrics, '("ndcg", "recall")')):
        if isinstance(values, str) or not isinstance(values, Sequence) or len(set(values)) < len(values):
            raise ConfigError("a sequence without repeats", repr(values), name, f"choose e.g. {name}={example}")
    if not systems or (reference is not None and reference not in systems):
        raise ConfigError("the reference among the systems", f"{reference!r} of {list(systems)}", "evaluate", "add it")
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise ConfigError("list lengths of at least 1", str(list(ks)), "ks", "choose e.g. ks=(10, 20)")
    unknown = [metric for metric in metrics if metric not in RANKING_METRICS]
    if unknown or not metrics:
        raise ConfigError(f"metrics of {list(RANKING_METRICS)}", str(unknown), "metrics")


def _keys_and_ranks(lists: pl.DataFrame, where: str, types: Mapping[str, KeyType]) -> pl.DataFrame:
    require_columns(lists, [*types, "rank"], where)
    return _keys(lists, types, where).with_columns(lists["rank"])


def _checked(lists: pl.DataFrame, where: str, k: int, seen: pl.DataFrame | None) -> pl.DataFrame:
    pairs = lists.drop("rank")
    if pairs.is_duplicated().any() or lists.drop(pairs.columns[1]).is_duplicated().any():
        raise DataError("each candidate and each rank once per query", "repeats", where)
    if not lists["rank"].is_between(1, k).all():
        raise DataError(f"ranks from 1 to {k}", "other ranks", where)
    if seen is not None and not pairs.join(seen, on=pairs.columns, how="semi").is_empty():
        raise DataError("no candidates that the query has in train", "some", where)
    return lists


def _report(
    values: Mapping[str, Tensor],
    seed_means: Mapping[str, Tensor],
    names: Sequence[str],
    reference: str,
    num_queries: int,
    seed: int,
) -> Report:
    tables = []
    for name, table in values.items():
        own, paired = bootstrap(table, seed=seed), bootstrap(table - values[reference], seed=seed)
        num_seeds = len(seed_means[name])
        tables.append(
            pl.DataFrame(
                {
                    "system": [name] * len(names),
                    "metric": names,
                    "mean": own.mean.numpy(),
                    "low": own.low.numpy(),
                    "high": own.high.numpy(),
                    "difference": paired.mean.numpy(),
                    "difference_low": paired.low.numpy(),
                    "difference_high": paired.high.numpy(),
                    "p_value": paired.p_value.numpy(),
                    "num_seeds": [num_seeds] * len(names),
                    "seed_std": seed_means[name].std(dim=0).numpy() if num_seeds > 1 else [None] * len(names),
                },
                schema_overrides={"seed_std": pl.Float64},
            )
        )
    return Report(pl.concat(tables), reference=reference, num_queries=num_queries)
