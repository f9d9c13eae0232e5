"""The routes of single candidates and queries: what the store says of them, beside the bundle."""

from typing import Any, Final, final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrank.core.plain_json import to_json
from retrank.recommender.request import Key
from retrank.serving.asks import typed
from retrank.serving.bodies import read_json
from retrank.serving.documents import CandidateContent, candidate_row
from retrank.serving.messages import Value
from retrank.serving.path_keys import Kind, key_in_path
from retrank.serving.replies import HttpError, json_reply
from retrank.serving.service import Service, Serving
from retrank.serving.stores.records import Document

__all__ = ["ItemMessage", "resource_routes"]


@final
class ItemMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a candidate.

    Attributes:
        features: its columns of the catalogue.
        available: whether it may be recommended.
    """

    features: dict[str, Value] | None = None
    available: bool | None = None


_item: Final = msgspec.json.Decoder(ItemMessage).decode
_features: Final = msgspec.json.Decoder(dict[str, Value]).decode


def resource_routes(service: Service) -> APIRouter:
    """Return the routes.

    Args:
        service: what answers.
    """
    router = APIRouter()

    async def named(text: str, kind: Kind) -> Key:
        return await service.call(lambda serving: _key(serving, text, kind))

    @router.get("/items/{key}", summary="A candidate as it is served")
    async def get_item(key: str) -> Response:
        """Return its columns of the catalogue, and whether it may be recommended."""
        return json_reply(await service.call(lambda serving: _described(serving, _key(serving, key, "candidate"))))

    @router.put("/items/{key}", summary="Set a new or known candidate", openapi_extra=_body(ItemMessage))
    async def put_item(key: str, request: Request) -> Response:
        """Take `features`, which replace all that it had (missing ones are null), and whether it is `available`."""
        message = await read_json(request, _item)

        def checked(serving: Serving) -> Document:
            name = _key(serving, key, "candidate")
            content = CandidateContent(message.features or {}, available=message.available is not False)
            return _checked_candidate(serving, name, content)

        return await _kept(service, await service.call(checked))

    @router.patch("/items/{key}", summary="Change a known candidate", openapi_extra=_body(ItemMessage))
    async def patch_item(key: str, request: Request) -> Response:
        """Take the `features` that change, and whether it is `available`; the rest stays."""
        message = await read_json(request, _item)

        stored = await service.stored("candidate", await named(key, "candidate"))

        def checked(serving: Serving) -> Document:
            name = _key(serving, key, "candidate")
            known = _described(serving, name)
            features = None if message.features is None else {**known["features"], **message.features}
            before = CandidateContent() if stored is None else msgspec.json.decode(stored, type=CandidateContent)
            available = known["available"] if message.available is None else message.available
            content = CandidateContent(before.features if features is None else features, available)
            return _checked_candidate(serving, name, content)

        return await _kept(service, await service.call(checked))

    @router.delete("/items/{key}", summary="Take a candidate away")
    async def delete_item(key: str) -> Response:
        """Recommend it no more; what was done with it stays in the histories."""

        def checked(serving: Serving) -> Document:
            name = _key(serving, key, "candidate")
            _described(serving, name)
            return Document("candidate", name, None)

        return await _kept(service, await service.call(checked))

    @router.get("/users/{key}", summary="The features of a query that the store has")
    async def get_user(key: str) -> Response:
        """Return the features that were set here; those of the bundle are not repeated."""
        stored = await service.stored("query", await named(key, "query"))

        def read(serving: Serving) -> dict[str, Any]:
            name = _key(serving, key, "query")
            is_known = serving.live.recommender.queries.index.place(name) >= 0
            if stored is None and not is_known:
                raise HttpError(404, f"nothing is known of {name!r}")
            hidden = list(serving.live.hidden(name))
            features = {} if stored is None else msgspec.json.decode(stored)
            return {"key": name, "features": features, "hidden": hidden, "is_in_bundle": is_known}

        return json_reply(await service.call(read))

    async def set_user(key: str, request: Request, *, keep: bool) -> Response:
        features = await read_json(request, _features)
        before = (await service.stored("query", await named(key, "query")) if keep else None) or b"{}"

        def checked(serving: Serving) -> Document:
            name = _key(serving, key, "query")
            both = {**msgspec.json.decode(before), **features}
            _check_query(serving, name, both)
            return Document("query", name, msgspec.json.encode(both))

        return await _kept(service, await service.call(checked))

    @router.put("/users/{key}", summary="Set the features of a query", openapi_extra=_body(dict[str, Value]))
    async def put_user(key: str, request: Request) -> Response:
        """Take features by column name; they count in every request of the query, unless it brings others."""
        return await set_user(key, request, keep=False)

    @router.patch("/users/{key}", summary="Change features of a query", openapi_extra=_body(dict[str, Value]))
    async def patch_user(key: str, request: Request) -> Response:
        """Take the features that change; the rest stays."""
        return await set_user(key, request, keep=True)

    @router.delete("/users/{key}", summary="Forget the features of a query that the store has")
    async def delete_user(key: str) -> Response:
        """Go back to what the bundle knows; events stay."""
        name = await named(key, "query")
        return await _kept(service, Document("query", name, None))

    return router


def _key(serving: Serving, text: str, kind: Kind) -> Key:
    return key_in_path(serving.live.recommender, text, kind)


def _described(serving: Serving, key: Key) -> dict[str, Any]:
    recommender = serving.live.recommender
    row = int(recommender.catalogue.rows([key])[0])
    if row < 0:
        raise HttpError(404, f"{key!r} is no candidate")
    features = recommender.candidates.row(row, named=True)
    del features[recommender.candidate]
    return {"key": key, "features": to_json(features), "available": recommender.is_available(key)}


def _checked_candidate(serving: Serving, key: Key, content: CandidateContent) -> Document:
    """Return a document that the recommender takes, tried on a copy."""
    recommender = serving.live.recommender
    if content.features is not None:
        row = candidate_row(recommender, key, content.features)
        is_known = int(recommender.catalogue.rows([key])[0]) >= 0
        (recommender.with_changed_candidates if is_known else recommender.with_candidates)(row)
    return Document("candidate", key, msgspec.json.encode(content))


def _check_query(serving: Serving, key: Key, features: dict[str, Any]) -> None:
    """Refuse features that no request of the query could bring."""
    recommender = serving.live.recommender
    query = {recommender.query: key, **typed(features, serving.live)}
    recommender.recommend(query, k=1)


async def _kept(service: Service, document: Document) -> Response:
    await service.write(document)
    return json_reply({"key": document.key}, 200)


def _body(kind: Any) -> dict[str, Any]:
    schema = msgspec.json.schema(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
    content = {"$ref": f"#/components/schemas/{kind.__name__}"} if schema else msgspec.json.schema(kind)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": content}}}}
