"""`Supervisor`: keeps workers running that accept on one socket."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

from retrank.serving.supervision.lines import Lines
from retrank.serving.supervision.reload import Reload
from retrank.serving.supervision.worker_process import WorkerProcess

__all__ = ["Supervisor"]

_SETTLED: Final = 30.0  # seconds after which a worker counts as one that runs
_LONGEST_DELAY: Final = 30.0  # seconds before a worker that keeps dying is started again
_WATCH: Final = 1.0  # seconds between two looks at the manifest
_NEVER: Final = float("inf")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@final
class Supervisor:
    """Runs workers until it is told to stop.

    SIGTERM and SIGINT stop it: workers accept no more, answer what they have accepted, and are killed if that takes too
    long; a second SIGINT kills them at once. SIGHUP, a line on the control socket, or, if it watches, another manifest
    begins a reload. A worker that dies is replaced, at once the first time and later and later if that goes on. What
    has died at its very start would do so again: then the supervisor gives up.

    Between a worker and its supervisor is a pair of sockets; its end tells each that the other is gone.

    Args:
        plan: `command` and `worker` (of a worker, and what it is told first), `environment`, `num_workers`, `listener`
            (a file descriptor), `bundle`, `watches`, `control` (the path of a socket), `seconds` (how long a stop may
            take), `is_for_people` and `start` (what to say when it runs).
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._selector = selectors.DefaultSelector()
        self._workers: list[WorkerProcess] = []
        self._starts: list[float] = []  # when others are started
        self._num_deaths = 0  # in a row
        self._metrics = Path(tempfile.mkdtemp(prefix="retrank-metrics-"))
        self._reload: Reload | None = None
        self._wanted: list[Lines] | None = None  # who waits for a reload after this one
        self._bundle: str | None = None
        self._stop_until: float | None = None
        self._code = 0
        self._seen, self._look_at = self._manifest(), time.monotonic() + _WATCH

    def run(self) -> int:
        """Run until the end.

        Returns:
            The exit code: 0 after SIGTERM, 130 after SIGINT, 2 for a bundle or a store with which no worker can start,
            1 if workers end at their start for another reason or have to be killed.
        """
        try:
            with self._signals(), self._control():
                self._start()
                while self._workers or self._starts:
                    self._turn()
        finally:
            for worker in self._workers:
                worker.process.kill()
            shutil.rmtree(self._metrics, ignore_errors=True)
        return self._code

    def _turn(self) -> None:
        """Do what there is to do, or wait for it."""
        times = list(self._starts)
        times += [] if self._stop_until in (None, _NEVER) else [self._stop_until]
        times += [self._look_at] if self._plan["watches"] else []
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(wait):
            key.data()
        now = time.monotonic()
        for when in [when for when in self._starts if when <= now]:
            self._starts.remove(when)
            self._start()
        if self._stop_until is not None and self._stop_until <= now and self._workers:
            self._log("error", "workers do not end in time and are killed", seconds=self._plan["seconds"])
            self._kill(1)
        if self._plan["watches"] and self._look_at <= now:
            self._look_at = now + _WATCH
            if self._bundle is not None and self._manifest() not in (self._seen, None):
                self._begin_reload()
        self._end_reload()

    def _start(self) -> None:
        environment = {**self._plan["environment"], "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        worker = WorkerProcess.started_by(
            self._plan["command"], self._plan["listener"], environment, self._plan["worker"]
        )
        self._workers.append(worker)
        self._selector.register(worker.lines.channel, selectors.EVENT_READ, lambda: self._hear(worker))

    def _hear(self, worker: WorkerProcess) -> None:
        for message in worker.lines.receive():
            if message is None:
                self._bury(worker)
                return
            match message["event"]:
                case "ready":
                    self._welcome(worker, message["bundle"])
                case "failed":
                    worker.error = message["error"]
                case "taken":
                    worker.bundle = message["bundle"]
                    if self._reload is not None:
                        self._reload.taken(worker)
                case "loaded" if self._reload is not None:
                    self._reload.loaded(worker, message["bundle"])
                case "refused" if self._reload is not None:
                    self._reload.refused(message["error"])

    def _welcome(self, worker: WorkerProcess, bundle: str) -> None:
        worker.bundle = bundle
        self._log("info", "a worker is ready", worker=worker.process.pid)
        if self._bundle is None:
            self._bundle = bundle
            self._announce()
            self._starts += [time.monotonic()] * (self._plan["num_workers"] - 1)
        elif bundle != self._bundle and self._reload is None:
            self._begin_reload()  # it has found a newer bundle: the others follow

    def _bury(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.lines.channel)
        worker.lines.close()
        code, pid = worker.ended(), worker.process.pid
        self._workers.remove(worker)
        for file in self._metrics.glob(f"gauge_live*_{pid}.db"):  # as prometheus_client.multiprocess does
            file.unlink(missing_ok=True)
        if self._stop_until is not None:
            return
        if self._reload is not None:
            self._reload.died(worker)
        if self._bundle is None:
            self._log("error", f"error: {worker.error or f'a worker ended at its start, with code {code}'}")
            self._stop(1 if worker.error is None else 2)
            return
        self._num_deaths = 1 if time.monotonic() - worker.started > _SETTLED else self._num_deaths + 1
        delay = 0.0 if self._num_deaths == 1 else min(_LONGEST_DELAY, 0.5 * 2 ** min(self._num_deaths - 2, 10))
        self._log(
            "error", "a worker ended and is replaced", worker=pid, code=code, error=worker.error, in_seconds=delay
        )
        self._starts.append(time.monotonic() + delay)

    def _begin_reload(self, clients: Sequence[Lines] = ()) -> None:
        if self._reload is not None:
            self._wanted = [*(self._wanted or []), *clients]
            return
        self._seen = self._manifest()
        self._reload = Reload([worker for worker in self._workers if worker.bundle is not None], clients)

    def _end_reload(self) -> None:
        reload = self._reload
        if reload is None or reload.result is None:
            return
        if is_refused := reload.result["result"] == "refused":
            for worker in self._workers:
                counts = worker is self._workers[0]
                worker.lines.send({"do": "drop", "error": reload.result["error"], "counts": counts})
            self._log("error", "the new bundle is refused and the old one stays", error=reload.result["error"])
        else:
            if reload.result["bundle"] == self._bundle:
                reload.result["result"] = "unchanged"
            self._bundle = reload.result["bundle"]
            self._log("info", "reloaded", **reload.result)
        for client in reload.clients:
            client.send(reload.result)
            client.close()
        self._reload, wanted, self._wanted = None, self._wanted, None
        is_mixed = any(worker.bundle not in (None, self._bundle) for worker in self._workers)
        if wanted is not None or (is_mixed and not is_refused):
            self._begin_reload(wanted or ())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals come as bytes on a socket."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._obey(ours.recv(64)))
        before_fd = signal.set_wakeup_fd(theirs.fileno())
        before = {kind: signal.signal(kind, lambda *_: None) for kind in _SIGNALS}
        with ours, theirs:
            try:
                yield
            finally:
                for kind, handler in before.items():
                    signal.signal(kind, handler)
                signal.set_wakeup_fd(before_fd)

    def _obey(self, kinds: bytes) -> None:
        for kind in kinds:
            if kind == signal.SIGHUP:
                if self._plan["is_for_people"] and not sys.stderr.isatty():
                    self._stop(0)  # the terminal was closed
                elif self._stop_until is None and self._bundle is not None:
                    self._begin_reload()
            elif self._stop_until is None:
                self._log("info", "stopping, after what is being answered")
                self._stop(130 if kind == signal.SIGINT else 0)
            elif kind == signal.SIGINT:
                self._kill(130)

    def _stop(self, code: int) -> None:
        if self._stop_until is not None:
            return
        self._code, self._stop_until = code, time.monotonic() + self._plan["seconds"]
        self._starts = []
        os.close(self._plan["listener"])
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)

    def _kill(self, code: int) -> None:
        self._code, self._stop_until = code, _NEVER
        for worker in self._workers:
            worker.process.kill()

    @contextlib.contextmanager
    def _control(self) -> Iterator[None]:
        """Listen to `retrank reload`, where a socket can be made."""
        path = Path(self._plan["control"])
        with socket.socket(socket.AF_UNIX) as listener:
            before = os.umask(0o177)  # for its owner alone
            try:
                listener.bind(str(path))
                listener.listen()
            except OSError as error:
                self._log("warning", "`retrank reload` cannot reach this service; SIGHUP does", path=path, error=error)
                yield
                return
            finally:
                os.umask(before)
            self._selector.register(listener, selectors.EVENT_READ, lambda: self._admit(listener.accept()[0]))
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _admit(self, channel: socket.socket) -> None:
        client = Lines(channel)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._serve_client(client))

    def _serve_client(self, client: Lines) -> None:
        self._selector.unregister(client.channel)  # one line, one answer
        if {"do": "reload"} in client.receive() and self._stop_until is None and self._bundle is not None:
            self._begin_reload([client])
            return
        client.send({"result": "refused", "error": "the service is starting or stopping"})
        client.close()

    def _manifest(self) -> tuple[int, int, int] | None:
        """Return what tells one manifest from another without reading it."""
        try:
            found = Path(self._plan["bundle"], "manifest.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _announce(self) -> None:
        start = {**self._plan["start"], "version": self._bundle, "pid": os.getpid()}
        if self._plan["is_for_people"]:
            _print("\n".join(["retrank serves", *(f"  {name:<8} {value}" for name, value in start.items())]))
        else:
            self._log("info", "serving", **start)

    def _log(self, level: str, message: str, **fields: Any) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        if self._plan["is_for_people"]:
            _print("  ".join([message, *(f"{name}={value}" for name, value in known.items())]))
            return
        now = time.time()
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        head = {"time": when, "level": level, "logger": "retrank.serving.supervisor", "message": message}
        _print(json.dumps({**head, **known}, default=str))


def _print(text: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
