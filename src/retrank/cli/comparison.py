"""The baselines that every comparison of the command line has, with the settings of the run."""

from collections.abc import Callable
from typing import Any, Final

import polars as pl

from retrank.baselines import EASE, Baseline, ItemKNN, Popularity
from retrank.cli.config import BaselinesConfig
from retrank.core.values import checked
from retrank.evaluation import Recommends, Report, evaluate
from retrank.recommender import Card

__all__ = ["COMPARED", "NAMES", "baseline_of", "better_baseline", "compare", "settings_of"]

COMPARED: Final = ("ndcg", "recall", "hit_rate", "mrr")
"""The metrics that tables show."""
NAMES: Final = {"popularity": "popularity", "item-knn": "item-kNN", "ease": "EASE", "ease-recent": "EASE, recent first"}
"""What `serve` calls a baseline, and what reports do."""


def baseline_of(kind: str, settings: BaselinesConfig) -> Baseline:
    """Make a baseline, not fitted.

    Args:
        kind: one of `NAMES`.
        settings: of the run.
    """
    match kind:
        case "popularity":
            return Popularity()
        case "item-knn":
            return ItemKNN(settings.knn_neighbors, settings.knn_shrink)
        case "ease":
            return EASE(settings.ease_l2)
        case _:
            return EASE(settings.ease_l2, decay=settings.ease_decay)


def compare(
    systems: dict[str, Recommends | list[Recommends]],
    train: pl.DataFrame,
    test: pl.DataFrame,
    settings: BaselinesConfig,
    *,
    query: str,
    candidate: str,
    time: str | None,
    ks: list[int],
    seed: int,
    say: Callable[[str], None],
    progress: bool,
) -> Report:
    """Compare systems with the baselines over the whole corpus, seen candidates excluded.

    A baseline that needs what is not there is left out, and that is said: times for what is recent, memory for EASE.

    Args:
        systems: by name; one that is called like a baseline takes its place.
        train: the interactions that they were trained on.
        test: later interactions.
        settings: of the baselines.
        query: the column of query keys.
        candidate: the column of candidate keys.
        time: the column of times in `train`, or None.
        ks: lengths of the lists.
        seed: of the bootstrap.
        say: is told what is left out, and why.
        progress: whether to show progress.

    Returns:
        The report, baselines first; the reference is EASE, or item-kNN where EASE is left out.
    """
    num_candidates = train[candidate].n_unique()
    others: dict[str, Recommends | list[Recommends]] = {}
    for kind, name in NAMES.items():
        baseline = baseline_of(kind, settings)
        missing = _missing(baseline, num_candidates, time)
        if missing is None:
            others[name] = baseline
        elif name not in systems:
            say(f"{name} is left out of the comparison: {missing}")
    return evaluate(
        {**others, **systems},
        train,
        test,
        ks=ks,
        query=query,
        candidate=candidate,
        time=time,
        reference="EASE" if "EASE" in others else "item-kNN",
        seed=seed,
        progress=progress,
    )


def _missing(baseline: Baseline, num_candidates: int, time: str | None) -> str | None:
    """Say what a baseline cannot do without."""
    if baseline.decay > 0 and time is None:
        return "the history has no times"
    if isinstance(baseline, EASE) and (needed := baseline.memory_needed(num_candidates)) > baseline.memory_limit:
        limit = f"{baseline.memory_limit / 10**9:.3g} GB"
        return f"{num_candidates:,} candidates need {needed / 10**9:.3g} GB, and it may take {limit}"
    return None


def better_baseline(report: Report) -> str | None:
    """Say which baseline is better than the models, and how to serve it.

    Args:
        report: of a run that trained models, the last of its systems.

    Returns:
        A sentence; None if no baseline is better.
    """
    values = {system: report.value(system, "ndcg@10") for system in report.systems}
    ours = report.systems[-1]
    best = max((kind for kind in NAMES if NAMES[kind] in values), key=lambda kind: values[NAMES[kind]])
    if values[NAMES[best]] <= values[ours]:
        return None
    return (
        f"{NAMES[best]} does better than {ours} here (ndcg@10 {values[NAMES[best]]:.4f} and {values[ours]:.4f}): "
        f"`retrank train` with --serve {best} writes a bundle of it."
    )


def settings_of(card: Card) -> BaselinesConfig:
    """Return the settings of the baselines that a bundle was compared with in training.

    Args:
        card: of the bundle.

    Returns:
        Those of its facts; the defaults if it has none, as one that was not written by `retrank train`.

    Raises:
        StorageError: other facts of that name.
    """
    facts: dict[str, Any] = card.facts.get("baselines", {})
    return checked(facts, BaselinesConfig, "card.json, facts.baselines")
