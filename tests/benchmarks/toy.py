"""A workload without libraries, for the tests of the harness."""

import sys
import time
from functools import partial

from benchmarks.workload import Case, Contender, Goal, Job, Tick, Workload, repeated


def sleeper(seconds):
    return repeated(partial(time.sleep, seconds), work=10, note="sleeps")


def noisy():
    sys.stdout.write("not JSON\n")
    return sleeper(0)


def dies_in_preparation():
    raise ValueError("no data")


def dies_in_second_repeat():
    def loop(tick: Tick):
        tick()
        tick()
        raise RuntimeError("gave up")

    return Job(loop, work=1)


def hoarder():
    block = bytearray(100_000_000)
    return repeated(lambda: len(block), work=1)


WORKLOAD = Workload(
    "toy",
    "Toys",
    [
        Case(
            "naps",
            "Sleeping",
            "naps",
            [
                Contender("short", partial(sleeper, 0.01), "ours", libraries=["json"]),
                Contender("long", partial(sleeper, 0.03), libraries=[]),
                Contender("noisy", noisy, libraries=[]),
                Contender("dies early", dies_in_preparation, libraries=[]),
                Contender("dies late", dies_in_second_repeat, libraries=[]),
                Contender("elsewhere", noisy, environment="tfrs"),
                Contender("too large", noisy, left_out="not run: too large"),
                Contender("hoarder", hoarder, "limit", libraries=[]),
            ],
            [Goal("short", "long", rate=2.0)],
        ),
        Case("cold", "No warm-up", "naps", [Contender("short", partial(sleeper, 0), libraries=[])], warm_ups=0),
    ],
)
