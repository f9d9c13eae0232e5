"""`doctor`: what a bug report needs, and which implementation does the work and why."""

import importlib.metadata
import os
import platform
import warnings
from typing import Any, Final

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retrank.cli.extras import EXTRAS, install_line, is_installed
from retrank.cli.output import print_json
from retrank.core import native
from retrank.core.errors import RetrankWarning
from retrank.core.version import __version__
from retrank.openmp import POLICY_IN_FORCE

__all__ = ["doctor", "examine"]

_VARIABLES: Final = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME"),
    "MKL_NUM_THREADS",
    *(
        "RETRANK_NATIVE",
        "RETRANK_NATIVE_FOR",
        "RETRANK_PROGRESS",
        "RETRANK_DATA",
        "RETRANK_CACHE",
        "XDG_CACHE_HOME",
        "CXX",
    ),
)


def doctor(*, as_json: bool) -> None:
    """Tell versions, implementations, threads and extras; kernels whose build has failed are built again.

    Args:
        as_json: print JSON instead of tables.
    """
    found = examine()
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False)
    for title, facts in found.items():
        table = Table(title=title, title_justify="left", show_header=False)
        for name, value in facts.items():
            table.add_row(escape(name), escape(str(value)))
        console.print(table)


def examine() -> dict[str, dict[str, Any]]:
    """Collect what `doctor` tells.

    Returns:
        Title of each part to its facts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrankWarning)  # the reason is among the facts
        build = native.retry()
    return {
        "versions": _versions(),
        "operations": {name: _implementation(build) for name in native.operations()},
        "kernels": _kernels(build),
        "threads": _threads(),
        "environment": {name: os.environ.get(name, "not set") for name in _VARIABLES},
        "extras": {name: "installed" if is_installed(name) else f"missing: {install_line(name)}" for name in EXTRAS},
    }


def _versions() -> dict[str, Any]:
    return {
        "retrank": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy", "polars")},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _threads() -> dict[str, Any]:
    return {
        "torch": torch.get_num_threads(),
        "kernels": native.num_threads(),
        "processors": os.cpu_count(),
        "waiting": POLICY_IN_FORCE,
    }


def _implementation(build: native.Build) -> str:
    return "C++ kernel for float32 on the CPU" if build.library is not None else f"plain torch: {build.reason}"


def _kernels(build: native.Build) -> dict[str, Any]:
    facts: dict[str, Any] = {"in use": build.library is not None}
    if build.library is None:
        facts["reason"] = build.reason
    facts["built for"] = build.family or "this processor"
    facts["compiler"] = build.compiler or "none was asked for"
    if build.kept is not None:
        rows, width, lanes = native.tile_shape()
        facts |= {"file": str(build.kept.path), "flags": build.kept.flags}
        facts["processor"] = f"registers of {lanes} floats, tiles of {rows} x {width} scores"
    return facts
