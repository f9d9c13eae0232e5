"""Contenders in turn, A B A B ..., so that a machine that drifts drifts for all of them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.environments import FOLDER, ROOT, interpreter
from benchmarks.workload import Case, Contender

TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
PATIENCE = 600  # seconds that nobody needs for one answer


class WorkerError(Exception):
    """The contender's process ended before it was told to, or did not answer."""


class Runs(Protocol):
    """What takes turns."""

    def run(self) -> float:
        """Do one repeat and return its seconds."""
        ...


class Worker:
    """The driver's end of a `benchmarks.worker` process; leaving the context ends the process."""

    def __init__(self, module: str, case: Case, contender: Contender, *, threads: int) -> None:
        python, variables = interpreter(contender.environment)
        log = FOLDER / "logs" / f"{case.name}-{contender.name}.log".replace("/", "_").replace(" ", "_")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        arguments = [module, case.name, contender.name, str(threads), str(case.warm_ups)]
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=_environment(threads, variables, ours=contender.environment == "retrank"),
            )
        self.description: dict[str, Any] = {}
        self.of_processor: list[float] = []
        """The seconds of processor time of each repeat, all threads together."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()  # also closes the pipes

    def prepare(self) -> None:
        """Wait until data and model are there and the warm-up is done."""
        self.description = self._answer()
        self._answer()

    def run(self) -> float:
        """Do one repeat and return its seconds."""
        self._say("run")
        answer = self._answer()
        self.of_processor.append(round(float(answer["of_processor"]), 6))
        return float(answer["seconds"])

    def stop(self) -> int:
        """End the process and return its peak memory in bytes."""
        self._say("stop")
        return int(self._answer()["peak_memory"])

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer tells
            print(word, file=self._process.stdin, flush=True)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(PATIENCE, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            self._process.wait()
            raise WorkerError(_last_words(self._log, self._process.returncode))
        answer: dict[str, Any] = json.loads(line)
        return answer


def interleaved(workers: Mapping[str, Runs], repeats: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Let each do one repeat, in order, `repeats` times.

    Returns:
        The seconds by name of those that lasted, and by name what was wrong with those that did not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    failures: dict[str, str] = {}
    for _ in range(repeats):
        for name, worker in workers.items():
            if name not in failures:
                try:
                    seconds[name].append(worker.run())
                except WorkerError as error:
                    failures[name] = str(error)
    return {name: times for name, times in seconds.items() if name not in failures}, failures


def measure(module: str, case: Case, *, repeats: int, threads: int, peers: Mapping[str, str]) -> dict[str, Any]:
    """Measure one case.

    Args:
        module: where the worker finds the workload.
        case: what to measure.
        repeats: counted repeats of each contender.
        threads: of each contender.
        peers: why an environment is not there, by its name; its contenders are reported as missing.

    Returns:
        What the file of results holds of it.
    """
    results: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for contender in case.contenders:
            result = results[contender.name] = {"role": contender.role, "size": contender.size}
            if reason := contender.left_out or peers.get(contender.environment, ""):
                result["missing"] = reason
                continue
            _say(f"  prepare {contender.name}")
            worker = stack.enter_context(Worker(module, case, contender, threads=threads))
            try:
                worker.prepare()
            except WorkerError as error:
                result["missing"] = f"failed: {error}"
                _say(f"    {result['missing']}")
                continue
            workers[contender.name] = worker
            result |= worker.description
        _say(f"  {repeats} repeats of {len(workers)}")
        started = time.perf_counter()
        seconds, failures = interleaved(workers, repeats)
        for name, failure in failures.items():
            results[name]["missing"] = f"failed: {failure}"
        for name, times in seconds.items():
            worker = workers[name]
            results[name] |= {"seconds": [round(t, 6) for t in times], "of_processor": worker.of_processor}
            results[name]["peak_memory"] = worker.stop()
        _say(f"  {time.perf_counter() - started:.0f} s")
    return {
        "title": case.title,
        "unit": case.unit,
        "note": case.note,
        "grows": case.grows,
        "threads": threads,
        "contenders": results,
        "goals": [{key: value for key, value in asdict(goal).items() if value is not None} for goal in case.goals],
    }


def _environment(threads: int, variables: Mapping[str, str], *, ours: bool) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if ours or name != "PYTHONPATH"}
    limits = dict.fromkeys(
        ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", *TENSORFLOW], str(threads)
    )
    return {**inherited, "OMP_WAIT_POLICY": "passive", "TF_CPP_MIN_LOG_LEVEL": "3", **limits, **variables}


def _last_words(log: Path, code: int | None) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"exit status {code}: {lines[-1][:200] if lines else 'no message'}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
