"""`Family`: processors that run the same kernels, so that what was built on one of them serves on all."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

__all__ = ["FAMILIES", "Family", "FamilyError", "wanted_family"]

_VARIABLE: Final = "RETRANK_NATIVE_FOR"


class FamilyError(Exception):
    """A family that is unknown, or that this processor does not belong to."""


@final
@dataclass(frozen=True)
class Family:
    """Processors with some instructions in common.

    Args:
        name: of the family, as compilers call it in `-march=`.
        machines: what `platform.machine` may say of them; the first is the usual name.
        features: what Linux lists of each in `/proc/cpuinfo`, at least.
    """

    name: str
    machines: tuple[str, ...]
    features: frozenset[str]

    def lacking(self, machine: str, described: str) -> list[str]:
        """Say what a processor lacks. Code that uses it nevertheless would end the process.

        Args:
            machine: what `platform.machine` says.
            described: the text of `/proc/cpuinfo`; empty if nothing is known, and then everything counts as lacking.

        Returns:
            The names of Linux, sorted; none for a processor of the family.
        """
        if machine not in self.machines:
            return [f"the architecture {self.machines[0]} (it is {machine})"]
        common: set[str] | None = None  # to all cores: a system may have large and small ones
        for line in described.splitlines():
            title, _, listed = line.partition(":")
            if title.strip() in ("flags", "Features"):
                common = set(listed.split()) if common is None else common & set(listed.split())
        return sorted(self.features - (common or set()))

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the compiler."""
        return (f"-march={self.name}",)


def wanted_family() -> Family | None:
    """Return the family that `RETRANK_NATIVE_FOR` names.

    Returns:
        None if the kernels are for this processor alone.

    Raises:
        FamilyError: nothing of that name is known, or this processor does not belong to it.
    """
    name = os.environ.get(_VARIABLE, "")
    if not name:
        return None
    family = FAMILIES.get(name)
    if family is None:
        raise FamilyError(f"{_VARIABLE}={name!r} names no family of processors; known are {', '.join(FAMILIES)}")
    if lacking := family.lacking(platform.machine(), _described()):
        raise FamilyError(f"{_VARIABLE}={name}, but this processor lacks {', '.join(lacking)}")
    return family


def _described() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# The levels of the x86-64 psABI, by the names of Linux: sse3 is pni, and lzcnt is abm.
_V2: Final = frozenset({"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"})
_V3: Final = _V2 | frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"})
_V4: Final = _V3 | frozenset({"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"})
_X86: Final = ("x86_64", "AMD64")
_ARM_V8: Final = frozenset({"asimd", "fp"})
_ARM_V8_2: Final = _ARM_V8 | frozenset({"asimdrdm", "atomics", "crc32"})
_ARM: Final = ("aarch64", "arm64")

_KNOWN: Final = (
    Family("x86-64-v2", _X86, _V2),
    Family("x86-64-v3", _X86, _V3),
    Family("x86-64-v4", _X86, _V4),
    Family("armv8-a", _ARM, _ARM_V8),
    Family("armv8.2-a", _ARM, _ARM_V8_2),
)
FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _KNOWN})
