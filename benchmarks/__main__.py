"""Run all workloads and print a Markdown table, or JSON with --json."""

import argparse
import dataclasses
import json

import torch

from benchmarks.harness import interleaved
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each contender")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    results = {name: interleaved(make(), arguments.runs) for name, make in WORKLOADS.items()}
    if arguments.json:
        timings = {n: {c: dataclasses.asdict(t) for c, t in r.items()} for n, r in results.items()}
        print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__, "seconds": timings}))
        return
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {arguments.runs} interleaved runs\n"
    )
    print("| workload | contender | median | low - high | times retrank |\n|---|---|---|---|---|")
    for name, timings in results.items():
        ours = timings["retrank"].median
        for contender, t in timings.items():
            ratio = f"{t.median / ours:.2f}"
            print(f"| {name} | {contender} | {t.median:.3f} s | {t.low:.3f} - {t.high:.3f} | {ratio} |")


if __name__ == "__main__":
    main()
