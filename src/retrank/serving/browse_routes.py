"""The routes to look around by: what the service knows and takes, who is known, and what they did."""

from typing import Annotated, Any, final

import polars as pl
import torch
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from retrank.core.plain_json import to_json
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.browsing import find_candidates, find_queries
from retrank.serving.catalogue_summary import CatalogueSummary
from retrank.serving.path_keys import key_in_path
from retrank.serving.replies import json_reply
from retrank.serving.service import Service, Serving
from retrank.serving.typical_features import typical_features

__all__ = ["browse_routes"]

Limit = Annotated[int, Query(ge=1, le=100)]
Text = Annotated[str, Query(max_length=200)]
Keys = Annotated[list[str] | None, Query(max_length=100)]


def browse_routes(service: Service) -> APIRouter:
    """Return the routes.

    Args:
        service: whose recommender they look into.
    """
    router, about = APIRouter(), _About(service)

    @router.get("/about", summary="What the service knows and takes")
    async def get_about() -> Response:
        """Return the names and types of keys and columns, examples of conditions, types of events, and limits."""
        return json_reply(await run_in_threadpool(about.report))

    @router.get("/users", summary="Known queries")
    async def get_users(prefix: Text = "", limit: Limit = 20) -> Response:
        """Return the first keys that begin with some text."""
        recommender = service.serving.live.recommender  # a value: no other thread changes it
        return json_reply({"keys": await run_in_threadpool(find_queries, recommender, prefix, limit)})

    @router.get("/users/{key:path}/history", summary="What a query did")
    async def get_history(key: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 50) -> Response:
        """Return its latest events, newest first, what it does not want to see, and its features."""
        return json_reply(await service.call(lambda serving: _history(serving, key, limit)))

    @router.get("/items", summary="Candidates by name or key")
    async def get_items(search: Text = "", limit: Limit = 20, key: Keys = None) -> Response:
        """Return the first candidates whose title, or else key, contains some text; or those of some keys."""
        recommender = service.serving.live.recommender
        if key is not None:
            keys = [key_in_path(recommender, text, "candidate") for text in key]
            return json_reply({"items": _all_described(recommender, keys)})
        column = about.summary(recommender).title or recommender.candidate
        rows = await run_in_threadpool(find_candidates, recommender, column, search, limit)
        names = recommender.candidates[recommender.candidate]
        return json_reply({"items": [_described(recommender, names[row], row) for row in rows]})

    return router


@final
class _About:
    """Tells what there is; looks at each table once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._made: tuple[pl.DataFrame, CatalogueSummary] | None = None
        self._typical: tuple[pl.DataFrame, dict[str, Any]] | None = None

    def summary(self, recommender: Recommender) -> CatalogueSummary:
        table, made = recommender.candidates, self._made
        if made is None or made[0] is not table:
            self._made = made = (table, CatalogueSummary.of(table, recommender.candidate))
        return made[1]

    def typical(self, recommender: Recommender) -> dict[str, Any]:
        table, made = recommender.queries.stored_table, self._typical
        if made is None or made[0] is not table:
            self._typical = made = (table, typical_features(recommender))
        return made[1]

    def report(self) -> dict[str, Any]:
        live, settings = self._service.serving.live, self._service.settings
        recommender = live.recommender
        summary = self.summary(recommender)
        return {
            "title": recommender.card.title,
            "bundle": live.version,
            "query": {
                "column": recommender.query,
                "type": recommender.queries.key_type,
                "count": len(recommender.queries),
            },
            "candidate": {
                "column": recommender.candidate,
                "type": recommender.catalogue.key_type,
                "count": len(recommender.catalogue),
            },
            "features": self.typical(recommender),
            "title_column": summary.title,
            "columns": dict(summary.columns),
            "group_columns": summary.groups,
            "has_diversity": recommender.baseline is None,
            "conditions": summary.conditions,
            "event_types": dict(settings.event_types),
            "max_k": settings.limits.k,
            "logs_impressions": settings.logs_impressions,
        }


def _history(serving: Serving, text: str, limit: int) -> dict[str, Any]:
    recommender, live = serving.live.recommender, serving.live
    key = key_in_path(recommender, text, "query")
    log = recommender.history.events
    events = log.events(torch.tensor([log.queries.place(key)])).values
    keys = log.candidates.keys.gather(events[-limit:].flip(0).numpy()).to_list()
    place = recommender.queries.index.place(key)
    known = {} if place < 0 else to_json(recommender.queries.stored_table.row(place, named=True))
    features = to_json(live.query(key, {}))
    return {
        "key": key,
        "is_known": place >= 0 or len(events) > 0,
        "num_events": len(events),
        "items": _all_described(recommender, keys),
        "hidden": _all_described(recommender, list(live.hidden(key))),
        "features": {name: value for name, value in (known | features).items() if name != recommender.query},
    }


def _all_described(recommender: Recommender, keys: list[Key]) -> list[dict[str, Any]]:
    rows = recommender.catalogue.rows(keys).tolist() if keys else []
    return [_described(recommender, key, row) for key, row in zip(keys, rows, strict=True)]


def _described(recommender: Recommender, key: Key, row: int) -> dict[str, Any]:
    """Return a candidate with its columns; those of one that the catalogue does not hold are null."""
    if row < 0:
        return {"key": key, "details": None}
    details = to_json(recommender.candidates.row(row, named=True))
    del details[recommender.candidate]
    return {"key": key, "details": details}
