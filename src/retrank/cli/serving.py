"""The command `serve`."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from retrank.core.errors import ConfigError
from retrank.core.extras import optional

__all__ = ["serve"]


def serve(
    bundle: Annotated[Path, typer.Argument(help="The directory of a bundle.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for any that is free.")] = 8000,
    store: Annotated[
        str | None, typer.Option(help="Where events go: a file, sqlite:///FILE, postgresql://... or redis://...")
    ] = None,
) -> None:
    """Serve a bundle over HTTP, with a page at /."""
    server = optional("retrank.serving.server", extra="serve")
    telemetry, settings = optional("retrank.serving.telemetry", "serve"), optional("retrank.serving.settings", "serve")
    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise ConfigError("an address that is free", f"{host}:{port} ({error})", "--host and --port") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits for 40 ms
    telemetry.log_json()
    place = str(bundle.absolute()).rstrip("/")
    typer.echo(f"http://{host}:{listener.getsockname()[1]}", err=True)
    server.serve(bundle, store or f"{place}-events.sqlite", settings.Settings(), listener)
