"""How the threads of OpenMP wait for each other: asleep. Said before torch is loaded, since its library asks only then.

By default a thread that waits for the others spins for some milliseconds. If another program wants that core, or the
other thread has no core to run on, everybody waits for a thread that does nothing, and two threads are several times
slower than one. Threads that sleep lose nothing that could be measured on idle cores.

`OMP_WAIT_POLICY=passive` is set in the environment of the process unless the variable is there already; the finer
`GOMP_SPINCOUNT` and `KMP_BLOCKTIME` take precedence over it in the libraries that know them. It stays there, for
libraries that are loaded later and for child processes, which inherit it: also programs of others then wait asleep. Set
the variable yourself, e.g. to `active`, and neither this process nor its children are changed.
"""

import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["POLICY_IN_FORCE", "set_wait_policy"]

_VARIABLE: Final = "OMP_WAIT_POLICY"
_FINER: Final = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_REMEDY: Final = f"export {_VARIABLE}=passive"


def set_wait_policy() -> str:
    """Have threads sleep while they wait, unless somebody has said how they wait, or it is too late.

    Returns:
        The policy in force, who set it, and what to type if it should be another.
    """
    given = [f"{name}={os.environ[name]}" for name in (*_FINER, _VARIABLE) if name in os.environ]
    if not given and (reader := _loaded_already()):
        return f"too late, waiting threads spin: {reader} was there first; import retrank before it, or {_REMEDY}"
    os.environ.setdefault(_VARIABLE, "passive")
    if not given:
        return f"passive, waiting threads sleep: {_VARIABLE}=passive, set by retrank"
    policy = os.environ[_VARIABLE].strip().lower()
    said = f"{', '.join(given)}, set by the environment"
    if any(name in os.environ for name in _FINER):
        return f"as told: {said}"
    if policy == "passive":
        return f"passive, waiting threads sleep: {said}"
    return f"{policy}, waiting threads spin: {said}; on busy cores: {_REMEDY}"


def _loaded_already() -> str:
    """Name what has read the environment before; empty for nothing."""
    if "torch" in sys.modules:
        return "torch"
    maps = Path("/proc/self/maps")  # there is no such file where OpenMP is another library, which asks when it is used
    files = {line.rpartition("/")[2].strip() for line in maps.read_text().splitlines()} if maps.exists() else set()
    return next((name for name in sorted(files) if name.startswith("libgomp.so")), "")


POLICY_IN_FORCE: Final = set_wait_policy()
"""What `retrank doctor` tells of it."""
