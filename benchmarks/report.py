"""`docs/benchmarks.md` out of the files of results. Run `python -m benchmarks.report`."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.workloads import NAMES

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
Result = Mapping[str, Any]

INTRODUCTION = """# Benchmarks

How fast retrank is beside its peers and beside what the machine can do. Written by the command that measured it:

```
make bench                                  # everything, and this page
make bench ARGS="--only dlrm loader"        # some workloads
make bench ARGS="--no-peers"                # retrank, plain torch and the limits of the machine only
make bench ARGS="--report"                  # this page alone, from the results there are
```

Each contender runs in a process of its own, the peers in their own virtual environments (`.peers`, made on first use
from the pins in `benchmarks/peers`). All of a table are prepared and warmed up, then take turns, A B C A B C ..., so
that a machine that drifts drifts for all; only ratios within one table mean anything, and differences below a quarter
mean little. Rates are medians of the counted repeats. Every process may use the same number of cores and threads.
*Limits* are measured in the same turns: the bare matrix products, reads of random rows or passes over memory that the
work cannot do without, in plain torch. Peak memory is that of the whole process; in brackets, what it was when the
libraries were loaded and no data made. Seconds of the processor are those of all threads together, and leave out what
other programs of the machine took. How much work is done a second is what is compared: some slow peers are
given less of it, as the notes say.
"""


def main(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and the plot if matplotlib is there."""
    files = [results / f"{name}.json" for name in NAMES]
    workloads = [json.loads(file.read_text()) for file in files if file.exists()]
    plot = page.with_suffix(".svg")
    drawn = draw(workloads, plot)
    page.write_text(render(workloads, plot.name if drawn else None))
    print(f"wrote {page}")


def render(workloads: Sequence[Result], plot: str | None = None) -> str:
    """Return the page in Markdown."""
    parts = [INTRODUCTION, *_goals(workloads)]
    if not workloads:
        parts.append("Nothing has been measured yet.\n")
    if plot is not None:
        parts.append(f"## As the work grows\n\n![Time of a unit of work against size]({plot})\n")
    for workload in workloads:
        parts.append(f"## {workload['title']}\n")
        parts += [part for case in workload["cases"].values() for part in _case(case)]
    return "\n".join(parts)


def median(contender: Result) -> float:
    """Return the seconds of a repeat."""
    return statistics.median(contender["seconds"])


def rate(contender: Result) -> float:
    """Return the work done in a second."""
    return float(contender["work"]) / median(contender)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the power of the size with which values grow, by least squares in logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


def ran(contender: Result | None) -> bool:
    """Say whether there are times."""
    return contender is not None and "missing" not in contender


def judge(goal: Result, contenders: Mapping[str, Result]) -> tuple[str, str, bool | None]:
    """Return what was wanted, what came out, and whether it is reached; None if it was not measured."""
    ours, other = contenders.get(goal["contender"]), contenders.get(goal.get("against", ""))
    measured = ran(ours) and (ran(other) or "against" not in goal)
    against = goal.get("against", "")
    if "seconds_each" in goal:
        value = 1 / rate(ours) if measured and ours else math.nan
        return f"at most {_seconds(goal['seconds_each'])} each", _seconds(value), _reached(goal["seconds_each"] - value)
    if "processor_seconds_each" in goal:
        bound = goal["processor_seconds_each"]
        value = statistics.median(ours["of_processor"]) / ours["work"] if measured and ours else math.nan
        return f"at most {_seconds(bound)} of the processor each", _seconds(value), _reached(bound - value)
    if "memory_bytes" in goal:
        value = float(ours["peak_memory"]) if measured and ours else math.nan
        return f"at most {_bytes(goal['memory_bytes'])}", _bytes(value), _reached(goal["memory_bytes"] - value)
    if "memory_share" in goal:
        share = ours["peak_memory"] / other["peak_memory"] if measured and ours and other else math.nan
        text = f"at most {goal['memory_share']:.0%} of the memory of {against}"
        return text, f"{share:.0%}", _reached(goal["memory_share"] - share)
    ratio = rate(ours) / rate(other) if measured and ours and other else math.nan
    if contenders[against]["role"] == "limit":
        return f"at least {goal['rate']:.0%} of the {against}", f"{ratio:.0%}", _reached(ratio - goal["rate"])
    if goal["rate"] < 1:
        text = f"at most {1 / goal['rate']:.1f} times the time of {against}"
        return text, f"{1 / ratio:.2f} times", _reached(ratio - goal["rate"])
    return f"at least {goal['rate']:g} times {against}", f"{ratio:.2f} times", _reached(ratio - goal["rate"])


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"


def _reached(margin: float) -> bool | None:
    return None if math.isnan(margin) else margin >= 0


def _goals(workloads: Sequence[Result]) -> Iterator[str]:
    rows = []
    for workload in workloads:
        for case in workload["cases"].values():
            for goal in case["goals"]:
                wanted, got, reached = judge(goal, case["contenders"])
                answer = {True: "yes", False: "**no**", None: ""}[reached]
                result = got if reached is not None else "not measured"
                name = goal["contender"].removeprefix("retrank").removeprefix(", ")
                what = f"{workload['title']}: {case['title']}" + (f"; {name}" if name else "")
                rows.append(f"| {what} | {wanted} | {result} | {answer} |")
    if rows:
        yield "\n".join(["## Our goals\n", "| work | goal | measured | reached |", "|---|---|---|---|", *rows, ""])


def _case(case: Result) -> Iterator[str]:
    yield f"### {case['title']}\n"
    yield _measured(case)
    yield _scaling(case) if case["grows"] else _comparison(case)
    if case["note"]:
        yield case["note"] + "\n"


def _measured(case: Result) -> str:
    machine, versions = case["machine"], {}
    for contender in case["contenders"].values():
        versions |= contender.get("versions", {})
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    counts = {len(contender["seconds"]) for contender in case["contenders"].values() if ran(contender)}
    repeats = " or ".join(map(str, sorted(counts)))
    return (
        f"{case['measured']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}; {case['threads']} threads, {repeats} repeats"
        + (f"; {libraries}" if libraries else "")
        + ".\n"
    )


def _comparison(case: Result) -> str:
    contenders = case["contenders"]
    first = next(contender for contender in contenders.values() if contender["role"] == "ours")
    lines = [
        f"| contender | {case['unit']} / s | one repeat, lowest to highest | peak memory | retrank beside it |",
        "|---|---|---|---|---|",
    ]
    for name, contender in contenders.items():
        if not ran(contender):
            lines.append(f"| {name} | {contender['missing']} | | | |")
            continue
        low, high = min(contender["seconds"]), max(contender["seconds"])
        beside = ""
        if ran(first) and contender is not first:
            ratio = rate(first) / rate(contender)
            beside = f"{ratio:.0%} of the limit" if contender["role"] == "limit" else f"{ratio:.2f} times"
        label = f"{name} ({contender['note']})" if contender["note"] else name
        memory = f"{_bytes(contender['peak_memory'])} ({_bytes(contender['memory_before'])})"
        times = f"{_duration(low)} to {_duration(high)}"
        lines.append(f"| {label} | {_number(rate(contender))} | {times} | {memory} | {beside} |")
    return "\n".join([*lines, ""])


def _scaling(case: Result) -> str:
    lines = [f"| {case['grows']} | time of one of the {case['unit']} | peak memory |", "|---|---|---|"]
    for name, contender in case["contenders"].items():
        if ran(contender):
            time, memory = _duration(1 / rate(contender)), _bytes(contender["peak_memory"])
            lines.append(f"| {contender['size']:,.0f} | {time} | {memory} |")
        else:
            lines.append(f"| {contender['size']:,.0f} | {name}: {contender['missing']} | |")
    sizes, times = points(case)
    if len(sizes) > 1:
        text = f"Slope {slope(sizes, times):.2f}: the time of one grows with that power of the size; 0 is no growth."
        lines += ["", text]
    return "\n".join([*lines, ""])


def points(case: Result) -> tuple[list[float], list[float]]:
    """Return sizes, and the seconds of a unit of work at each."""
    contenders = [contender for contender in case["contenders"].values() if ran(contender)]
    return [float(c["size"]) for c in contenders], [1 / rate(c) for c in contenders]


def draw(workloads: Sequence[Result], file: Path) -> bool:
    """Plot the scaling cases, unless there are none or matplotlib is missing."""
    cases = [(w["title"], case) for w in workloads for case in w["cases"].values() if case["grows"] and points(case)[0]]
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not cases:
        return False
    mpl.rcParams["svg.hashsalt"] = "retrank"  # the same numbers, the same file
    columns = min(3, len(cases))
    rows = math.ceil(len(cases) / columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for place, (title, case) in enumerate(cases, start=1):
        sizes, times = points(case)
        axes = figure.add_subplot(rows, columns, place)
        axes.loglog(sizes, times, marker="o")
        axes.set_ylim(min(times) / 4, max(times) * 4)
        heading = f"{title}, slope {slope(sizes, times):.2f}" if len(sizes) > 1 else title
        axes.set_title(heading, fontsize=9)
        axes.set_xlabel(case["grows"], fontsize=8)
        axes.set_ylabel(f"seconds for one of the {case['unit']}", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.savefig(file, metadata={"Date": None})
    return True


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{_number(seconds / scale)} {unit}"
    return f"{_number(seconds / 1e-9)} ns"


def _number(value: float) -> str:
    """Write three digits that count."""
    return f"{float(f'{value:.3g}'):,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
