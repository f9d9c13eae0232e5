"""`OpenApi`: the description of the service, with examples from its bundle."""

from typing import Any, Final, final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from retrank.serving import messages
from retrank.serving.resource_routes import ItemMessage
from retrank.serving.service import Service

__all__ = ["OpenApi"]

_HOT: Final[dict[str, tuple[type, type, str]]] = {
    "/recommend": (messages.RecommendRequest, messages.ListAnswer, "Recommend to a query"),
    "/recommend/batch": (messages.BatchRequest, messages.BatchAnswer, "Recommend to many queries"),
    "/session/recommend": (messages.SessionRequest, messages.ListAnswer, "Recommend to an anonymous visitor"),
    "/rank": (messages.RankRequest, messages.RankAnswer, "Put candidates in order"),
    "/similar": (messages.SimilarRequest, messages.SimilarAnswer, "List candidates that are like one"),
    "/events": (messages.EventsRequest, messages.Accepted, "Keep events, which count from the next answer on"),
}
_REFUSALS: Final = {
    "400": "The body is no JSON.",
    "401": "The API key is missing or unknown.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "A field is unknown, missing, or not what it must be.",
    "503": "The queue is full or the store is down; try again after the seconds in `Retry-After`.",
    "504": "The answer took too long.",
}


@final
class OpenApi:
    """Makes the OpenAPI document.

    Args:
        app: whose other routes are described.
        service: whose bundle the examples are from.
    """

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app, self._service = app, service
        self._made: tuple[str, bytes] | None = None

    def document(self) -> bytes:
        """Return the document as JSON; it is made once for a bundle, since that keeps everybody waiting."""
        version = self._service.serving.live.version
        if self._made is None or self._made[0] != version:
            self._made = version, msgspec.json.encode(self._document())
        return self._made[1]

    def _document(self) -> dict[str, Any]:
        described = get_openapi(title=self._app.title, version=self._app.version, routes=self._app.routes)
        kinds = [kind for pair in _HOT.values() for kind in pair[:2]] + [messages.ErrorAnswer, ItemMessage]
        _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
        components = described.setdefault("components", {}).setdefault("schemas", {})
        components.update(schemas)
        paths, examples = described["paths"], self._examples()
        for path, (asked, answered, summary) in _HOT.items():
            paths[path] = {
                "post": {
                    "summary": summary,
                    "description": (asked.__doc__ or "").split("\n", 1)[0],
                    "operationId": path.strip("/").replace("/", "_"),
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _reference(asked), "example": examples[path]}},
                    },
                    "responses": {
                        "200": {
                            "description": (answered.__doc__ or "").split("\n", 1)[0],
                            "content": {"application/json": {"schema": _reference(answered)}},
                        },
                        **_refusals(),
                    },
                }
            }
        for path, operations in paths.items():
            if path not in _HOT:
                for operation in operations.values():
                    operation["responses"] = {**operation["responses"], **_refusals("404")}
        if self._service.settings.key_hashes:
            described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            described["security"] = [{"key": []}]
        return described

    def _examples(self) -> dict[str, Any]:
        recommender = self._service.serving.live.recommender
        known = recommender.queries.index.keys
        query = known[0] if len(known) else "someone"
        candidates = recommender.candidates[recommender.candidate].head(3).to_list()
        kind = next(iter(self._service.settings.event_types))
        return {
            "/recommend": {"query": query, "k": 10},
            "/recommend/batch": {"requests": [{"query": query, "k": 3}, {"query": query, "deny": candidates[:1]}]},
            "/session/recommend": {"history": candidates, "k": 10},
            "/rank": {"query": query, "candidates": candidates},
            "/similar": {"candidate": candidates[0], "k": 10},
            "/events": {"events": [{"query": query, "candidate": candidates[-1], "type": kind}]},
        }


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _refusals(*more: str) -> dict[str, Any]:
    texts = {**_REFUSALS, **dict.fromkeys(more, "There is no such thing.")}
    content = {"application/json": {"schema": _reference(messages.ErrorAnswer)}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}
