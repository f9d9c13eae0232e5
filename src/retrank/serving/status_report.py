"""`status_report`: how the service does, from its metrics, those of all workers together."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from prometheus_client.samples import Sample

from retrank.core.version import __version__
from retrank.recommender.index_choice import FACT
from retrank.recommender.recommender import Recommender
from retrank.serving.service import Service

__all__ = ["histograms", "status_report", "totals"]


def status_report(service: Service) -> dict[str, Any]:
    """Return numbers that only grow, so that who asks twice knows what happened between; and what is now.

    Args:
        service: to tell of.
    """
    samples = [sample for metric in service.telemetry.registry.collect() for sample in metric.samples]
    live = service.serving.live
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    workers = int(values.get("retrank_workers", 1))
    return {
        "version": __version__,
        "bundle": live.version,
        "workers": workers,
        "requests": totals(samples, "retrank_requests_total", "route", "status"),
        "seconds": histograms(samples, "retrank_request_seconds", "route"),
        "batch_size": histograms(samples, "retrank_batch_size")[""],
        "batch_seconds": histograms(samples, "retrank_batch_seconds")[""],
        "waiting": values.get("retrank_waiting", 0),
        "queue": workers * service.settings.limits.queue,
        "events": totals(samples, "retrank_events_total", "type"),
        "reloads": totals(samples, "retrank_reloads_total", "result"),
        "reload_error": service.reload_error,
        "store": {**_store(service), "known": live.position, "refused_changes": live.num_refused},
        "lost_impressions": values.get("retrank_lost_impressions_total", 0),
        **_recommender(live.recommender),
    }


def totals(samples: Iterable[Sample], name: str, *labels: str) -> dict[str, float]:
    """Return a counter by its labels, joined by spaces.

    Args:
        samples: of a registry.
        name: of the counter's samples.
        labels: the names of the labels, in the order in which they are joined.
    """
    return {
        " ".join(sample.labels[label] for label in labels): sample.value for sample in samples if sample.name == name
    }


def histograms(samples: Iterable[Sample], name: str, label: str | None = None) -> dict[str, dict[str, Any]]:
    """Return a histogram by a label, or as "" if it has none.

    Args:
        samples: of a registry.
        name: of the histogram.
        label: the name of its label.

    Returns:
        For each value of the label, `bounds` (the last bucket has none), and as many and one more `counts`, each with
        those of the buckets before, and the `sum`.
    """
    buckets: dict[str, dict[float, float]] = defaultdict(dict)
    sums: dict[str, float] = {}
    for sample in samples:
        key = "" if label is None else sample.labels.get(label, "")
        if sample.name == f"{name}_bucket":
            buckets[key][float(sample.labels["le"])] = sample.value
        elif sample.name == f"{name}_sum":
            sums[key] = sample.value
    return {
        key: {
            "bounds": sorted(found)[:-1],
            "counts": [found[bound] for bound in sorted(found)],
            "sum": sums.get(key, 0.0),
        }
        for key, found in buckets.items()
    }


def _store(service: Service) -> dict[str, Any]:
    answers = service.store_error is None
    return {
        "kind": type(service.store).__name__.removesuffix("Store"),
        "answers": answers,
        "position": service.feed.position if answers else None,
    }


def _recommender(recommender: Recommender) -> dict[str, Any]:
    baseline, ranking = recommender.baseline, recommender.ranking
    stages = [baseline or recommender.retrieval, *([ranking] if ranking is not None else [])]
    index = None
    if baseline is None:
        facts = recommender.card.facts.get(FACT)
        index = {"kind": type(recommender.index).__name__, "is_exact": recommender.index.is_exact}
        index |= facts if isinstance(facts, dict) and not recommender.index.is_exact else {}
    return {
        "stages": [type(stage).__name__ for stage in stages],
        "index": index,
        "num_candidates": len(recommender.catalogue),
        "num_queries": len(recommender.queries),
        "num_events": len(recommender.history.events),
    }
