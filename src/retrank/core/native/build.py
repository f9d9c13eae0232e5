"""Compile the kernels on first use, and keep them for the next process."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from retrank.core.native.cache import Kept, KernelCache
from retrank.core.native.families import Family, FamilyError, wanted_family
from retrank.core.notices import warn_once
from retrank.core.working import Working

__all__ = ["Build", "current_build", "find_or_build", "library", "operations", "retry"]

_FLAGS: Final = ("-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared")
_OPENMP: Final = "-fopenmp"
_VARIANTS: Final = (("-march=native", _OPENMP), ("-mcpu=native", _OPENMP), ("-march=native",), ())
_Variants = Sequence[tuple[str, ...]]
_SECONDS: Final = 300  # of a busy machine

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Build:
    """What became of the kernels in this process.

    Args:
        library: the kernels, or None if plain torch does their work.
        reason: why plain torch does; empty if it does not.
        compiler: the command of the compiler, if one was found.
        kept: where the library is, and the options it was built with.
        family: the processors they are for, if they are not for this one alone.
        has_just_failed: whether this process tried to build them and could not, or could not take those that it was
            told to take.
    """

    library: ctypes.CDLL | None
    reason: str = ""
    compiler: str = ""
    kept: Kept | None = None
    family: str = ""
    has_just_failed: bool = False


def library() -> ctypes.CDLL | None:
    """Load the kernels, compiling them if this machine has not done so before.

    They are kept in `retrank/kernels` below `$XDG_CACHE_HOME`, by default `~/.cache`, one file for each version of the
    sources, compiler and processor. Not `torch.utils.cpp_extension`: that wants ninja, setuptools and half a minute
    with torch's headers, of which these sources use none.

    With `RETRANK_NATIVE_FOR=x86-64-v3`, or another name of `families`, they are built for all processors of that
    family, and any compiler's are taken: what one machine has built, another finds, which needs no compiler then. A
    processor that is not of the family gets plain torch.

    A build that fails is said once, as a `RetrankWarning`, and remembered, so that the next process does not try again;
    `retrank doctor` does, and says which implementation is in use and why.

    Returns:
        The library; None without a compiler, if nothing could be written, or with `RETRANK_NATIVE=0`. The reason is
        logged at level INFO.

    Example:
        >>> import retrank as rr
        >>> rr.core.native.library() is rr.core.native.library()  # built and loaded once
        True
    """
    return current_build().library


def current_build() -> Build:
    """Find or build the kernels, if nobody has asked before.

    Returns:
        What became of them in this process.
    """
    return _process.build or _process.find()


def retry() -> Build:
    """Forget builds that failed, and try again unless the kernels are there.

    Returns:
        What became of them.
    """
    return _process.find(again=True)


def operations() -> list[str]:
    """Name the operations that have kernels.

    Returns:
        The names of the C++ files, sorted.
    """
    return [path.stem for path in _sources() if path.suffix == ".cpp"]


@final
class _Process:
    """The one build of a process, whichever thread asks first."""

    def __init__(self) -> None:
        self.build: Build | None = None
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks
            os.register_at_fork(after_in_child=self._renew_lock)

    def find(self, *, again: bool = False) -> Build:
        with self._lock:
            if self.build is None or (again and self.build.library is None):
                self.build = find_or_build(again=again)
            found = self.build
        if found.has_just_failed:
            warn_once(f"there are no C++ kernels, so slower plain torch does their work: {found.reason}")
        elif found.library is None:
            _log.info("no kernels, plain torch instead: %s", found.reason)
        return found

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_process: Final = _Process()


def find_or_build(*, again: bool = False) -> Build:
    """Do what the first question of a process does.

    Args:
        again: also if a build of the same has failed before.

    Returns:
        What came of it.
    """
    if os.environ.get("RETRANK_NATIVE", "1") == "0":
        return Build(None, "switched off by RETRANK_NATIVE=0")
    compiler: list[str] = []
    name = ""
    try:
        family = wanted_family()
        sources, cache = _sources(), KernelCache.of_this_user()
        if family is None:
            compiler = _compiler()
            key = _key(compiler, sources)
        else:
            name, key = family.name, _key_for(family, sources)
        if again:
            cache.forget_failures()
        kept, failure = _loadable(cache.find(key)), cache.failure(key)
        if kept is None and failure is None:
            compiler = compiler or _compiler_without(cache, name)
            kept = _built(compiler, sources, cache, key, _VARIANTS if family is None else _variants_for(family))
        if kept is None:
            reason = f"an earlier build failed: {failure or cache.failure(key)}"
            return Build(None, reason, shlex.join(compiler), family=name)
        return Build(ctypes.CDLL(str(kept.path)), "", shlex.join(compiler), kept, name)
    except (_BuildError, FamilyError) as error:
        return Build(None, str(error), shlex.join(compiler), family=name, has_just_failed=True)
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:  # also: no home, odd $CXX
        return Build(None, str(error), shlex.join(compiler), family=name)


class _BuildError(Exception):
    """A compiler that is there, and does not make kernels that can be loaded."""


def _built(compiler: list[str], sources: list[Path], cache: KernelCache, key: str, variants: _Variants) -> Kept | None:
    """Build the library, unless another process does so at the same time; None if it has failed."""
    with Working(f"building the C++ kernels of retrank with {compiler[0]}, once for this machine"), cache.lock():
        kept = _loadable(cache.find(key))
        if kept is None and cache.failure(key) is None:
            return _compile(compiler, sources, cache, key, variants)
        return kept


def _sources() -> list[Path]:
    return sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".h"))


def _key(compiler: list[str], sources: list[Path]) -> str:
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout  # noqa: S603
    identity = [path.read_bytes() for path in sources]
    identity += [version, repr((compiler, _FLAGS, _VARIANTS, _processor())).encode()]
    return hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]


def _key_for(family: Family, sources: list[Path]) -> str:
    """Return a key that is the same on every machine and with every compiler."""
    identity = [*(path.read_bytes() for path in sources), repr((_FLAGS, _variants_for(family))).encode()]
    return hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]


def _variants_for(family: Family) -> _Variants:
    return ((*family.options, _OPENMP), family.options)


def _compiler_without(cache: KernelCache, family: str) -> list[str]:
    """Return a compiler, since no library is kept; on a machine that has none, one should have been."""
    try:
        return _compiler()
    except OSError as error:
        raise FamilyError(f"{cache.folder} has no kernels for {family} that load, and there is {error}") from error


def _compiler() -> list[str]:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise OSError(f"no C++ compiler named {' or '.join(names)}")


def _compile(compiler: list[str], sources: list[Path], cache: KernelCache, key: str, variants: _Variants) -> Kept:
    """Keep the library of the first variant that compiles and loads, or remember why there is none."""
    reason = ""
    with cache.draft() as draft:
        for number, variant in enumerate(variants):
            built = draft / f"{number}.so"
            units = [str(path) for path in sources if path.suffix == ".cpp"]
            try:
                command = [*compiler, *_FLAGS, *variant, "-o", str(built), *units]
                result = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
            except subprocess.TimeoutExpired:
                reason = f"{compiler[0]} took more than {_SECONDS} s"
                break
            if result.returncode == 0 and _loads(built):
                return cache.keep(key, built, shlex.join([*_FLAGS, *variant]))
            said = result.stderr.decode(errors="replace").strip()[-2000:]
            reason = f"{shlex.join(compiler)} failed: {said or 'what it made cannot be loaded'}"
    cache.remember_failure(key, reason)
    raise _BuildError(reason)


def _loadable(kept: Kept | None) -> Kept | None:
    return kept if kept is not None and _loads(kept.path) else None


def _loads(file: Path) -> bool:
    try:
        ctypes.CDLL(str(file))
    except OSError:
        return False
    return True


def _processor() -> str:
    """Tell apart machines that share a home directory, since the kernels use all that this one can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
