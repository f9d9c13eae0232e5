"""Updating a recommender that serves a baseline: it is fitted again, to all events."""

import copy
from dataclasses import replace

import polars as pl

from retrank.baselines.baseline import Baseline
from retrank.core.errors import ConfigError
from retrank.core.version import __version__
from retrank.recommender.card import Card
from retrank.recommender.recommender import Recommender
from retrank.recommender.update_tables import checked_events, merged, require_known, unknown_events

__all__ = ["refitted"]


def refitted(
    before: Recommender,
    baseline: Baseline,
    new_events: pl.DataFrame,
    new_candidates: pl.DataFrame | None,
    new_queries: pl.DataFrame | None,
    *,
    progress: bool,
) -> Recommender:
    """Fit the baseline of a recommender to its old and new events.

    Args:
        before: the recommender.
        baseline: that it serves.
        new_events: one row per event.
        new_candidates: new candidates, and known ones with other columns.
        new_queries: refused, as a baseline reads nothing of a query but its past.
        progress: whether to show progress.

    Returns:
        Another recommender.

    Raises:
        ConfigError: `new_queries`, or more candidates than the baseline has memory for.
        DataError: a table lacks a column or has one of another type, or an event is with a candidate that is not known.
    """
    if new_queries is not None:
        raise ConfigError("events and candidates, all that a baseline reads", "new_queries", "update", "leave it out")
    log, candidates = before.history.events, before.candidates
    new = checked_events(new_events, log, before.queries.stored_table)
    if new_candidates is not None:
        candidates = merged(candidates, new_candidates, before.candidate, "new_candidates")
    require_known(new[before.candidate], candidates[before.candidate], "candidates")
    events = log.with_events(unknown_events(new, log))
    history = events.table()
    names = {"query": before.query, "candidate": before.candidate, "time": events.time}
    again = copy.copy(baseline).fit(history, **names, progress=progress)
    done: dict[str, int | str] = {
        "events": len(new),
        "events that were not in the history": len(events) - len(log),
        "new queries": len(events.queries) - len(log.queries),
        "new candidates": len(candidates) - len(before.candidates),
        "replayed": len(log),
        "retrank": __version__,
    }
    updated = Recommender(
        again,
        catalogue=candidates,
        history=history,
        time=events.time,
        card=_card(before.card, again, done),
        progress=progress,
    )
    return updated.with_unavailable(before.unavailable)


def _card(card: Card, baseline: Baseline, done: dict[str, int | str]) -> Card:
    said = (
        f"{type(baseline).__name__} was fitted again with {done['events']:,} new events; {done['new queries']:,} "
        f"queries and {done['new candidates']:,} candidates were new. Metrics on this card are from before."
    )
    updates = [*card.facts.get("updates", []), done]
    return replace(card, data="\n\n".join(filter(None, [card.data, said])), facts={**card.facts, "updates": updates})
