"""A worker: a process that answers, and does what its supervisor tells it."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry

from retrank.core.errors import RetrankError, RetrankWarning
from retrank.serving.accepting import Acceptor
from retrank.serving.app import create_app
from retrank.serving.bundles import load_live
from retrank.serving.connections import Connections
from retrank.serving.reloading import Reloader
from retrank.serving.service import Service
from retrank.serving.settings import Settings
from retrank.serving.stores.opening import open_store
from retrank.serving.supervision.lines import Lines
from retrank.serving.telemetry import Telemetry, log_json, log_text

__all__ = ["WorkerPlan", "main"]

_FAREWELL: Final = 0.3  # seconds in which clients hear with an answer that their connection closes
_KEEP_ALIVE: Final = 620  # seconds without a request: a balancer must hang up first, and some wait for 600
_log = logging.getLogger("retrank.serving")


@final
class WorkerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is told first.

    Attributes:
        bundle: the directory.
        store: the URL of the store.
        settings: how the service runs.
        seconds: how long connections may take to end.
        is_for_people: whether logs are text rather than JSON.
    """

    bundle: str
    store: str
    settings: Settings
    seconds: float
    is_for_people: bool


def main() -> int:
    """Answer on the socket, and listen to the supervisor on the other, whose file descriptors are the arguments.

    Returns:
        The exit code: 2 if the bundle or the store cannot be used, which the supervisor is told.
    """
    listener, lines = socket.socket(fileno=int(sys.argv[1])), Lines(socket.socket(fileno=int(sys.argv[2])))
    messages: list[dict[str, Any] | None] = []
    while not messages:
        messages = lines.receive()
    if messages[0] is None:
        return 1  # there is no supervisor any more
    plan = msgspec.convert(messages[0], WorkerPlan)
    warnings.simplefilter("ignore", RetrankWarning)  # of what clients send, e.g. unknown keys in `allow`
    (log_text if plan.is_for_people else log_json)()
    try:
        store = open_store(plan.store)
        live = load_live(Path(plan.bundle), store, plan.settings)
    except RetrankError as error:
        lines.send({"event": "failed", "error": " ".join(str(error).split())})
        return 2
    with store:
        service = Service(live, store, plan.settings, Telemetry(CollectorRegistry(), adds_up_workers=True))
        config = uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE,
            ws="none",
            timeout_graceful_shutdown=max(1, int(plan.seconds)),
        )
        del live  # the service's alone, so that it goes when another bundle comes
        gc.collect()
        gc.freeze()  # what lives as long as the process: to look through it took 190 ms, twice a second under load
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(service, Path(plan.bundle), config, listener, lines))
    return 0


async def _serve(service: Service, bundle: Path, config: uvicorn.Config, listener: socket.socket, lines: Lines) -> None:
    """Run a server that does not accept itself, and accept for it; until SIGTERM, or the supervisor has gone."""
    loop, server, stopping = asyncio.get_running_loop(), uvicorn.Server(config), asyncio.Event()
    serving = loop.create_task(server.serve(sockets=[]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    for kind in (signal.SIGTERM, signal.SIGINT):  # in place of uvicorn's
        loop.add_signal_handler(kind, stopping.set)
    state = {"config": config, "server_state": server.server_state, "app_state": server.lifespan.state}
    protocol: Callable[..., asyncio.Protocol] = config.http_protocol_class
    connections = Connections(lambda: protocol(**state), service.settings.limits)
    watching = loop.create_task(connections.watch())
    acceptor = Acceptor(listener, connections)
    control = _Control(Reloader(service, bundle, loop), lines, lambda: loop.call_soon_threadsafe(stopping.set))
    threading.Thread(target=control.run, name="control", daemon=True).start()
    lines.send({"event": "ready", "bundle": service.serving.live.version})
    waiting = loop.create_task(stopping.wait())
    await asyncio.wait([waiting, serving], return_when=asyncio.FIRST_COMPLETED)
    await acceptor.close()
    service.is_draining = True
    # An answer that says so ends a connection with no request lost; one closed in silence may just have got a request.
    closing = (b"connection", b"close")
    config.encoded_headers.append(closing)
    server.server_state.default_headers = [*server.server_state.default_headers, closing]
    until = loop.time() + _FAREWELL
    while server.server_state.connections and loop.time() < until:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    watching.cancel()


@final
class _Control:
    """Does what the supervisor says, in a thread of its own.

    Args:
        reloader: loads bundles.
        lines: to and from the supervisor.
        stop: is called when the supervisor has gone.
    """

    def __init__(self, reloader: Reloader, lines: Lines, stop: Callable[[], object]) -> None:
        self._reloader, self._lines, self._stop = reloader, lines, stop

    def run(self) -> None:
        """Listen until the supervisor has gone."""
        while True:
            for message in self._lines.receive():
                if message is None:
                    _log.error("the supervisor has gone, and so does this worker")
                    with contextlib.suppress(RuntimeError):  # the loop has ended already
                        self._stop()
                    return
                self._obey(message)

    def _obey(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "load":
                try:
                    self._lines.send({"event": "loaded", "bundle": self._reloader.load()})
                except RetrankError as error:
                    self._lines.send({"event": "refused", "error": " ".join(str(error).split())})
                except Exception as error:  # noqa: BLE001 (whatever it is, the old bundle stays)
                    _log.exception("a bundle could not be loaded")
                    self._lines.send({"event": "refused", "error": f"{type(error).__name__}: {error}"})
            case "take":
                self._lines.send({"event": "taken", "bundle": self._reloader.take(counts=message["counts"])})
            case "drop":
                self._reloader.drop(message["error"], counts=message["counts"])


if __name__ == "__main__":
    sys.exit(main())
