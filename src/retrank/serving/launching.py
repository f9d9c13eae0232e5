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
        StorageError: there is no bundle.
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
        "environment": _environment(num_workers),
        "num_workers": num_workers,
        "listener": listener.fileno(),
        "bundle": str(bundle),
        "watches": watches,
        "control": str(control_path(bundle, os.getpid())),
        "seconds": _SECONDS,
        "is_for_people": is_for_people,
        "start": {
            "bundle": str(bundle),
            "url": f"{url}/",
            "store": _without_password(store),
            "workers": num_workers,
            "reload": f"retrank reload {bundle}",
            "stop": "Ctrl-C" if is_for_people else "SIGTERM",
        },
    }
    # A file without a name rather than arguments, which others can read: a URL may have a password.
    file = _written(plan)
    for descriptor in (file, listener.fileno()):
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", str(standalone.__file__), str(file)])  # noqa: S606


def _written(plan: dict[str, Any]) -> int:
    file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (the next program reads it)
    json.dump(plan, file)
    file.flush()
    return os.dup(file.fileno())


def _environment(num_workers: int) -> dict[str, str]:
    """Share the cores among workers, unless the user has said how."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = str(max(1, cores // num_workers))
    return {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)
