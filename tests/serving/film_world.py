"""A tiny service whose users and films have names of every kind, some of them hostile."""

import polars as pl
from prometheus_client import CollectorRegistry

import retrank as rr
from retrank.serving import Service, Settings, create_app
from retrank.serving.live import Live
from retrank.serving.settings import EVENT_TYPES
from retrank.serving.stores import open_store
from retrank.serving.telemetry import Telemetry

__all__ = ["FILMS", "HOSTILE", "USERS", "film_service", "films", "recommender"]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)//",
    '" onclick="x',
]
FILMS = [f"f{number}" for number in range(20)] + HOSTILE
USERS = ["ann", "anna", "bob", "a/b c", *HOSTILE]


def films():
    titles = [f"Film {number}" for number in range(20)] + HOSTILE
    genres = [["drama", "crime"][: 1 + number % 2] for number in range(len(FILMS))]
    genres[5], genres[-1] = None, HOSTILE
    return pl.DataFrame(
        {"film": FILMS, "title": titles, "year": [1970 + n for n in range(len(FILMS))], "genres": genres}
    )


def history():
    events = [(user, FILMS[(3 * place + step) % len(FILMS)]) for place, user in enumerate(USERS) for step in range(6)]
    return pl.DataFrame(events, schema=["user", "film"], orient="row").with_row_index("time")


def recommender():
    baseline = rr.baselines.ItemKNN().fit(history(), query="user", candidate="film", time="time")
    return rr.Recommender(
        baseline, catalogue=films(), history=history(), time="time", card=rr.recommender.Card("Films", metrics=CARD)
    )


def film_service(folder, served=None, **settings):
    """Return a service around the world's recommender, or another, and its application."""
    live = Live(served or recommender(), version="0" * 12, event_types=EVENT_TYPES)
    service = Service(live, open_store(folder / "events.db"), Settings(**settings), Telemetry(CollectorRegistry()))
    return service, create_app(service)


CARD = f"""Measured on **nothing**, with `none` of it.

| system | ndcg@10 | recall@10 |
|---|---|---|
| popularity | 0.1189 (0.1087-0.1285) | 0.5 |
| {HOSTILE[0]} | 0.2746 (0.2597–0.2893) | 0.75 |

- one
- {HOSTILE[1]}
"""
