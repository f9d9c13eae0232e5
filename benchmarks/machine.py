"""The machine in general words, and the memory of a process."""

import os
import platform
import resource
import sys
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Name processor, cores and memory; nothing that identifies the machine."""
    return {
        "processor": _processor(),
        "cores": len(cores()),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()}, Python {platform.python_version()}",
    }


def cores() -> list[int]:
    """Return the processor cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def peak_memory() -> int:
    """Return the largest resident memory so far, in bytes, of this process or of the largest that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(_own_peak(), children * _unit())


def _own_peak() -> int:
    # ru_maxrss starts at the peak of the process that started this one; VmHWM does not, but only Linux has it.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _unit()


def _unit() -> int:
    return 1 if sys.platform == "darwin" else 1024


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
