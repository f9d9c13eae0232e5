"""`launch`: this process becomes the supervisor of a service."""

import json
import os
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec

from retrank.core.errors import StorageError
from retrank.serving.bundles import version_of
from retrank.serving.control import control_path
from retrank.serving.settings import Settings
from retrank.serving.supervision import standalone
from retrank.serving.worker import WorkerPlan

__all__ = ["launch"]

_SECONDS: Final = 25.0  # for a stop, since Kubernetes kills after 30


def launch(
    bundle: Path, store: str, settings: Settings, listener: socket.socket, *, num_workers: int, watches: bool
) -> NoReturn:
    """Serve a bundle; nothing that follows this call is done, as the process becomes another program.

    Args:
        bundle: its directory.
        store: the URL of the store.
        settings: how the service runs.
        listener: a bound socket.
        num_workers: how many processes answer.
        watches: whether a new bundle is loaded as soon as it stands in place of the old one.

    Raises:
        StorageError: there is no bundle, or no folder for temporary files.
    """
    version_of(bundle)
    bundle = bundle.absolute()
    is_for_people = sys.stderr.isatty()
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    worker = WorkerPlan(
        str(bundle), store, replace(settings, event_types=dict(settings.event_types)), _SECONDS - 5, is_for_people
    )
    plan: dict[str, Any] = {
        "command": [sys.executable, "-m", "retrank.serving.worker"],
        "worker": msgspec.to_builtins(worker),
        "environment": _environment(),
        "num_workers": num_workers,
        "listener": listener.fileno(),
        "bundle": str(bundle),
        "watches": watches,
        "control": str(control_path(bundle, os.getpid())),
        "seconds": _SECONDS,
        "is_for_people": is_for_people,
        "start": {
            "url": f"{url}/",
            "openapi": f"{url}/openapi.json",
            "bundle": str(bundle),
            "store": _without_password(store),
            "workers": num_workers,
            "reload": f"retrank reload {bundle}",
            "stop": "Ctrl-C" if is_for_people else "SIGTERM",
        },
    }
    file = _written(plan)
    for descriptor in (file, listener.fileno()):
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", str(standalone.__file__), str(file)])  # noqa: S606


def _written(plan: dict[str, Any]) -> int:
    """Write a plan into a file without a name: others can read arguments, and a URL may have a password."""
    try:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            json.dump(plan, file)
            file.flush()
            return os.dup(file.fileno())
    except OSError as error:
        fix = "name one in TMPDIR"
        raise StorageError("a folder for temporary files", str(error), "the service", fix) from error


def _environment() -> dict[str, str]:
    """Give each worker one thread for what it computes, unless the user has said otherwise.

    With two threads in one worker, on two cores, a lone request of the quickstart's bundle took 4.0 ms of processor
    time, and 1.1 ms among 16 clients; with one thread 2.7 and 0.8. Millions of candidates that are searched exactly, by
    few clients, are a reason to set OMP_NUM_THREADS.
    """
    return {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)
