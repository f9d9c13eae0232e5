"""Load on servers: `retrank serve` beside the plainest handlers, by `wrk` from another process.

`python -m benchmarks.load` writes `benchmarks/results/load.json` and `docs/load.md`. The servers take turns, several
rounds; of each round the latencies are wrk's, and the processor's seconds those of the server and its workers.
"""

import argparse
import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environments import FOLDER, ROOT, install, interpreter
from benchmarks.machine import describe
from benchmarks.report import RESULTS

PAGE = ROOT / "docs" / "load.md"
CLIENTS = (1, 16, 64)
SCRIPT = r"""
local n = 0
local headers = {["content-type"] = "application/json"}
request = function()
  n = n + 1
  return wrk.format("POST", "/recommend", headers, string.format(BODY, (n * 37) % USERS + FIRST))
end
done = function(summary, latency, requests)
  for _, percent in ipairs({50, 95, 99}) do
    io.write(string.format("percentile %d %d\n", percent, latency:percentile(percent)))
  end
  local failed = summary.errors
  local sum = failed.connect + failed.read + failed.write + failed.status + failed.timeout
  io.write(string.format("answered %d in %d failed %d\n", summary.requests, summary.duration, sum))
end
"""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server: its command without the port, what its requests name, and in which interpreter it runs."""

    name: str
    command: Sequence[str]
    body: str = '{"query":"%d","k":10}'
    users: int = 943
    first: int = 1
    environment: str = "retrank"
    threads: int | None = None  # of OpenMP, for each thread that asks


def servers(bundle: Path, workers: Sequence[int]) -> list[Server]:
    """Return what is compared on MovieLens-100K."""
    store = tempfile.mkdtemp()
    ours = [
        Server(
            f"retrank serve, {count} worker{'s' * (count > 1)}",
            ["-m", "retrank", "serve", str(bundle), "--workers", str(count), "--store", f"{store}/{count}.sqlite",
             "--no-log-requests", "--port"],
        )
        for count in workers
    ]  # fmt: skip
    return [
        *ours,
        Server("the same bundle, plain FastAPI", ["-m", "benchmarks.servers.plain_retrank", str(bundle)]),
        Server(
            "the same bundle, plain FastAPI with OMP_NUM_THREADS=1",
            ["-m", "benchmarks.servers.plain_retrank", str(bundle)],
            threads=1,
        ),
        Server(
            "TFRS BruteForce, plain FastAPI",
            ["-m", "benchmarks.servers.plain_tfrs", str(FOLDER / "data" / "tfrs_index")],
            environment="tfrs",
        ),
    ]


def million(workers: Sequence[int]) -> list[Server]:
    """Return our servers of a million candidates, with the index that is chosen for so many."""
    import retrank as rr
    from benchmarks.workloads.serving import CLUSTERS, MILLION, world

    bundle = FOLDER / "data" / "million_bundle"
    if not bundle.exists():
        table, songs, (space, model) = world(200_000, 10_000, MILLION, clusters=CLUSTERS)
        rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table).save(bundle)
    facts = rr.Recommender.load(bundle).card.facts["index"]
    name = f"1,000,000 x 64, {facts['factory']}, recall@10 {facts['recall@10']}"
    ours = (replace(one, body='{"query":%d,"k":10}', users=10_000, first=0) for one in servers(bundle, workers))
    return [replace(one, name=f"{one.name}: {name}") for one in ours if one.command[1] == "retrank"]


@contextmanager
def running(server: Server) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a server, and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python, variables = interpreter(server.environment)
    environment = {**os.environ, **variables, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    environment |= {} if server.threads is None else {"OMP_NUM_THREADS": str(server.threads)}
    log = (FOLDER / "logs" / "load.log").open("ab")
    process = subprocess.Popen([python, *server.command, str(port)], env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        body = (server.body % server.first).encode()
        deadline = time.monotonic() + 300
        while True:
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/recommend", body, {"content-type": "application/json"}
                )
                urllib.request.urlopen(request, timeout=30).read()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{server.name} does not start; see .peers/logs/load.log") from error
                time.sleep(0.2)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def seconds_used(process: int) -> float:
    """Return the processor's seconds of a process and of all that it started."""
    found, waiting = 0.0, [process]
    while waiting:
        one = waiting.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            children = [path.read_text() for path in Path(f"/proc/{one}/task").glob("*/children")]
        except OSError:
            continue
        found += (int(fields[11]) + int(fields[12])) / TICKS
        waiting += [int(child) for text in children for child in text.split()]
    return found


def fire(server: Server, port: int, process: int, clients: int, seconds: float) -> dict[str, float]:
    """Let wrk ask for some seconds, and return what it saw."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        text = SCRIPT.replace("BODY", json.dumps(server.body))
        script.write(text.replace("USERS", str(server.users)).replace("FIRST", str(server.first)))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "--timeout", "30s", "-s", script.name]
        before = seconds_used(process)
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True, timeout=120
        )
        used = seconds_used(process) - before
    told = re.search(r"answered (\d+) in (\d+) failed (\d+)", done.stdout)
    if told is None:
        raise RuntimeError(f"{server.name}: {done.stdout}{done.stderr}")
    requests, microseconds, failed = map(int, told.groups())
    if failed:
        raise RuntimeError(f"{server.name}: {done.stdout}")
    latencies = {f"p{name}": int(value) * 1e-6 for name, value in re.findall(r"percentile (\d+) (\d+)", done.stdout)}
    return {**latencies, "rate": requests * 1e6 / microseconds, "cpu": used / requests}


def page(results: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    machine = results["machine"]
    lines = [
        "# Load",
        "",
        "How `retrank serve` does under load, beside the plainest handler around the same bundle and around",
        "TensorFlow Recommenders' BruteForce. Written by `python -m benchmarks.load`, which needs `wrk`.",
        "MovieLens-100K, two stages (100 retrieved and ranked, 10 returned; TFRS only retrieves), one machine for",
        "servers and clients: "
        f"{machine['processor']}, {machine['cores']} cores. Medians of the rounds, in which the servers take turns.",
        "",
        "| server | clients | requests/s | p50 | p95 | p99 | processor per request |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, by_clients in results["servers"].items():
        for clients, rounds in by_clients.items():
            middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            times = " | ".join(f"{middle[key] * 1e3:.1f} ms" for key in ("p50", "p95", "p99"))
            lines.append(f"| {name} | {clients} | {middle['rate']:,.0f} | {times} | {middle['cpu'] * 1e3:.2f} ms |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, keep, and write the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--million", action="store_true", help="also a million candidates")
    parser.add_argument("--only", help="only servers of this name, beside what was measured before")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page")
    arguments = parser.parse_args()
    file = RESULTS / "load.json"
    if not arguments.report:
        if shutil.which("wrk") is None:
            sys.exit("install wrk, the load generator")
        found = measured(arguments)
        if arguments.only:
            found["servers"] = {**json.loads(file.read_text())["servers"], **found["servers"]}
        file.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(json.loads(file.read_text())))
    print(f"wrote {PAGE}")


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all servers in turns."""
    import retrank as rr
    from benchmarks.workloads.serving import BUNDLE, save_bundles

    save_bundles()
    compared = servers(BUNDLE, arguments.workers)
    two_tower = BUNDLE.with_name("serving_bundle_two_tower")
    if not two_tower.exists():
        rr.Recommender.load(BUNDLE).without_ranking().save(two_tower)
    retrieval = servers(two_tower, [1])[0]
    compared.insert(len(arguments.workers), replace(retrieval, name="retrank serve, 1 worker, two-tower alone"))
    if arguments.no_peers or install(["tfrs"]):
        compared = [server for server in compared if server.environment == "retrank"]
    compared += million(arguments.workers) if arguments.million else []
    if arguments.only:
        compared = [server for server in compared if server.name == arguments.only]
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(arguments.rounds):
        for server in compared:
            print(f"round {turn + 1}: {server.name}", file=sys.stderr, flush=True)
            with running(server) as (port, process):
                fire(server, port, process.pid, 4, 1)  # warm
                for clients in arguments.clients:
                    seen = fire(server, port, process.pid, clients, arguments.seconds)
                    rounds.setdefault(server.name, {}).setdefault(str(clients), []).append(seen)
    return {"measured": dt.datetime.now(dt.UTC).date().isoformat(), "machine": describe(), "servers": rounds}


if __name__ == "__main__":
    main()
