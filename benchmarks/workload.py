"""What is measured: workloads made of cases, cases of contenders. Read by every interpreter, so plain Python only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Tick = Callable[[], None]
Role = Literal["ours", "peer", "limit"]


@dataclass(frozen=True)
class Job:
    """What a contender does once everything is prepared.

    `loop` works for ever and calls `tick` after each repeat, so that a training loop of any library can be measured
    between its epochs; `work` is how much a repeat does, in the unit of the case.
    """

    loop: Callable[[Tick], object]
    work: float
    note: str = ""


def repeated(function: Callable[[], object], work: float, note: str = "") -> Job:
    """Return the job of calling a function again and again."""

    def loop(tick: Tick) -> None:
        while True:
            function()
            tick()

    return Job(loop, work, note)


@dataclass(frozen=True)
class Contender:
    """A way to do the work: `prepare` runs in a process of its own, with the interpreter of `environment`.

    `libraries` are imported before the data is made, and their versions reported. A contender with a reason in
    `left_out` is reported and not run. `size` is its place on the axis of a scaling case.
    """

    name: str
    prepare: Callable[[], Job]
    role: Role = "peer"
    environment: str = "retrank"
    libraries: Sequence[str] = ("torch",)
    left_out: str = ""
    size: float | None = None


@dataclass(frozen=True)
class Goal:
    """What one of our contenders shall reach: a multiple of another's rate, or a bound on seconds or on peak memory.

    Seconds of the processor are those of all threads together, and of no other program that the machine runs.
    """

    contender: str
    against: str | None = None
    rate: float | None = None
    seconds_each: float | None = None
    processor_seconds_each: float | None = None
    memory_share: float | None = None
    memory_bytes: float | None = None


@dataclass(frozen=True)
class Case:
    """Contenders that take turns at the same work, counted in `unit`.

    `grows` names what the sizes of the contenders count; `memory_limit` is how many bytes each may map.
    """

    name: str
    title: str
    unit: str
    contenders: Sequence[Contender]
    goals: Sequence[Goal] = ()
    note: str = ""
    warm_ups: int = 1
    repeats: int | None = None
    memory_limit: int | None = None
    grows: str = ""


@dataclass(frozen=True)
class Workload:
    """The cases of one file of results. `prepare` writes the shared data; it runs in our own interpreter."""

    name: str
    title: str
    cases: Sequence[Case]
    about: str = ""
    prepare: Callable[[], None] | None = field(default=None, compare=False)
