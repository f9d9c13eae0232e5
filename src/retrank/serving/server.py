"""Runs the service in this process."""

import asyncio
import socket
import warnings
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry

from retrank.core.errors import RetrankWarning
from retrank.serving.app import create_app
from retrank.serving.bundles import load_live
from retrank.serving.service import Service
from retrank.serving.settings import Settings
from retrank.serving.stores.opening import open_store
from retrank.serving.telemetry import Telemetry

__all__ = ["serve"]


def serve(bundle: Path, store: str, settings: Settings, listener: socket.socket) -> None:
    """Serve a bundle until the process is told to stop; what is being answered then is answered first.

    Args:
        bundle: its directory.
        store: the URL of the store.
        settings: how the service runs.
        listener: a bound socket.

    Raises:
        StorageError: the bundle is missing or damaged.
    """
    warnings.simplefilter("ignore", RetrankWarning)  # of what clients send, e.g. unknown keys in `allow`
    opened = open_store(store)
    service = Service(load_live(bundle, opened, settings), opened, settings, Telemetry(CollectorRegistry()))
    config = uvicorn.Config(
        create_app(service), log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
