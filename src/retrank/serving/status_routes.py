"""The routes that tell how the service is: for balancers, for Prometheus and for people."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from retrank.serving.replies import json_reply
from retrank.serving.service import Service
from retrank.serving.status_report import status_report

__all__ = ["status_routes"]


def status_routes(service: Service) -> APIRouter:
    """Return the routes.

    Args:
        service: what they tell of.
    """
    router = APIRouter()

    @router.get("/healthz", summary="Whether the process lives")
    async def healthz() -> Response:
        """Answer as long as the event loop turns."""
        return json_reply({"status": "ok"})

    @router.get("/readyz", summary="Whether requests may come")
    async def readyz() -> Response:
        """Answer 200 while requests are answered, 503 when the service is shutting down."""
        live = service.serving.live
        state = {
            "status": "draining" if service.is_draining else "ready",
            "bundle": live.version,
            "position": live.position,
            "degraded": list(service.degraded),
            "refused_changes": live.num_refused,
            **({} if service.reload_error is None else {"reload_error": service.reload_error}),
        }
        return json_reply(state, 503 if service.is_draining else 200)

    @router.get("/metrics", summary="Metrics, as Prometheus reads them")
    async def metrics() -> Response:
        """Return all metrics, of all workers together."""
        text = await run_in_threadpool(service.telemetry.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @router.get("/status", summary="How the service does, in numbers")
    async def status() -> Response:
        """Return what the page shows: counts and histograms since the start, of all workers together."""
        await service.look()
        return json_reply(await run_in_threadpool(status_report, service))

    @router.get("/card", summary="The card of the bundle")
    async def card() -> Response:
        """Return what a reader must know of the bundle, and its version."""
        live = service.serving.live
        return json_reply({"bundle": live.version, "card": live.recommender.card.to_dict()})

    return router
