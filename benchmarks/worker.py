"""One contender in a process of its own: prepares, warms up, then does a repeat for every "run" it reads.

Run by `benchmarks.rotation`: `python -m benchmarks.worker MODULE CASE CONTENDER THREADS WARM_UPS`. It imports nothing
but the standard library and what the contender names, because it runs in the interpreters of peers.
"""

import importlib
import json
import os
import resource
import sys
import time
from typing import Any

from benchmarks.machine import cores, peak_memory
from benchmarks.workload import Case, Contender


class Stop(BaseException):
    """Leaves the contender's loop; no `except Exception` of a library may catch it."""


class Channel:
    """Lines of JSON to the driver; whatever else is printed goes to standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def send(self, **message: Any) -> None:
        """Write a line."""
        print(json.dumps(message), file=self._answers, flush=True)

    def wait(self) -> None:
        """Return at "run", and leave at anything else."""
        if sys.stdin.readline().strip() != "run":
            raise Stop


class Pace:
    """Stops the loop after each repeat until the driver says "run"."""

    def __init__(self, channel: Channel, warm_ups: int) -> None:
        self._channel, self._left, self._started, self._used = channel, warm_ups, 0.0, 0.0

    def start(self) -> None:
        """Wait at once if there is no warm-up."""
        if not self._left:
            self._left = -1
            self._pause(ready=True)

    def tick(self) -> None:
        """Mark the end of a repeat."""
        seconds, of_processor = time.perf_counter() - self._started, time.process_time() - self._used
        if self._left < 0:
            self._pause(seconds=seconds, of_processor=of_processor)
        else:
            self._left -= 1
            if not self._left:
                self._left = -1
                self._pause(ready=True)

    def _pause(self, **message: Any) -> None:
        self._channel.send(**message)
        self._channel.wait()
        self._started, self._used = time.perf_counter(), time.process_time()


def main(module: str, case_name: str, contender_name: str, threads: int, warm_ups: int) -> None:
    """Serve until told to stop."""
    channel = Channel()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[:threads])
    case, contender = _find(module, case_name, contender_name)
    if case.memory_limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (case.memory_limit, case.memory_limit))
    versions = {name: _version(name) for name in contender.libraries}
    _limit_threads(threads)
    before = peak_memory()
    job = contender.prepare()
    channel.send(work=job.work, note=job.note, versions=versions, memory_before=before)
    pace = Pace(channel, warm_ups)
    try:
        pace.start()
        job.loop(pace.tick)
    except Stop:
        channel.send(peak_memory=peak_memory())
    os._exit(0)  # some libraries take seconds to say goodbye


def _find(module: str, case_name: str, contender_name: str) -> tuple[Case, Contender]:
    workload = importlib.import_module(module).WORKLOAD
    case = next(case for case in workload.cases if case.name == case_name)
    return case, next(contender for contender in case.contenders if contender.name == contender_name)


def _version(library: str) -> str:
    return getattr(importlib.import_module(library), "__version__", "")


def _limit_threads(threads: int) -> None:
    """Set what environment variables leave open."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "tensorflow" in sys.modules:
        threading = sys.modules["tensorflow"].config.threading
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:6]))
