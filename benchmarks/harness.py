"""Time contenders in turn, so that a machine that drifts drifts for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender: the median and the extremes of its counted runs."""

    median: float
    low: float
    high: float


def interleaved(contenders: Mapping[str, Callable[[], object]], runs: int = 5) -> dict[str, Timing]:
    """Run A B A B ... after one warm-up each, and return the timing of each contender."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(statistics.median(s), min(s), max(s)) for name, s in seconds.items()}
