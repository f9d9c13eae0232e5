"""Measure workloads, keep the results as JSON, and write `docs/benchmarks.md`."""

import argparse
import datetime as dt
import importlib
import json
import signal
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.environments import VARIABLES, install
from benchmarks.machine import describe
from benchmarks.rotation import measure
from benchmarks.workload import Case, Workload
from benchmarks.workloads import NAMES


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    failures = dict.fromkeys(VARIABLES, "left out by --no-peers") if arguments.no_peers else None
    for name in [] if arguments.report else arguments.only:
        module = f"benchmarks.workloads.{name}"
        workload: Workload = importlib.import_module(module).WORKLOAD
        cases = [case for case in workload.cases if _wanted(case, arguments)]
        if not cases:
            continue
        if workload.prepare is not None:
            workload.prepare()
        used = {c.environment for case in cases for c in case.contenders} - {"retrank"}
        missing = install(sorted(used)) if failures is None else failures
        for case in cases:
            print(f"{name}, {case.name}: {case.title}", file=sys.stderr, flush=True)
            repeats = min(arguments.repeats, case.repeats or arguments.repeats)
            measured = measure(module, case, repeats=repeats, threads=arguments.threads, peers=missing)
            about = {"measured": dt.datetime.now(dt.UTC).date().isoformat(), "machine": describe()}
            keep(arguments.results / f"{name}.json", workload, case.name, {**about, **measured})
    report.main(arguments.results, arguments.page)


def keep(file: Path, workload: Workload, case_name: str, result: dict[str, object]) -> None:
    """Replace one case in a file of results, and keep the others that the workload still has."""
    old = json.loads(file.read_text())["cases"] if file.exists() else {}
    found = {**old, case_name: result}
    cases = {case.name: found[case.name] for case in workload.cases if case.name in found}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"workload": workload.name, "title": workload.title, "cases": cases}, indent=1) + "\n")


def _wanted(case: Case, arguments: argparse.Namespace) -> bool:
    return (not arguments.cases or case.name in arguments.cases) and not (case.grows and arguments.no_scaling)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES, metavar="WORKLOAD", help=", ".join(NAMES))
    parser.add_argument("--cases", nargs="+", default=(), metavar="CASE", help="only cases of these names")
    parser.add_argument("--repeats", type=int, default=5, help="counted repeats of each contender")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores of each contender")
    parser.add_argument("--no-peers", action="store_true", help="only retrank, plain torch and limits")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the cases over three sizes")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--results", type=Path, default=report.RESULTS, metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=report.PAGE, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
