"""Compile the kernels on first use, and keep them for the next process."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

from retrank.core.files import sha256, write_bytes, write_text

__all__ = ["library"]

_FLAGS: Final = ("-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared")
_VARIANTS: Final = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ())
_SECONDS: Final = 120

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Load the kernels, compiling them if this machine has not done so before.

    They are kept in `retrank` below `$XDG_CACHE_HOME`, by default `~/.cache`, one file for each version of the sources,
    compiler and processor. Not `torch.utils.cpp_extension`: that wants ninja, setuptools and half a minute with torch's
    headers, of which these sources use none.

    Returns:
        The library; None without a compiler, if nothing could be written, or with `RETRANK_NATIVE=0`. The reason is
        logged at level INFO.

    Example:
        >>> import retrank as rr
        >>> rr.core.native.library() is rr.core.native.library()  # built and loaded once
        True
    """
    if os.environ.get("RETRANK_NATIVE", "1") == "0":
        return None
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:  # also: no home, odd $CXX
        _log.info("no kernels, plain torch instead: %s", error)
        return None


def _built() -> Path:
    compiler = _compiler()
    sources = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".h"))
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout  # noqa: S603
    identity = [path.read_bytes() for path in sources]
    identity += [version, repr((compiler, _FLAGS, _VARIANTS, _processor())).encode()]
    key = hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "retrank")
    target = folder / f"kernels-{key}.so"
    seal = target.with_suffix(".sha256")
    if not (target.exists() and seal.exists() and seal.read_text() == sha256(target)):  # loading a damaged one is fatal
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(target, _compiled(compiler, [path for path in sources if path.suffix == ".cpp"], folder))
        write_text(seal, sha256(target))
    return target


def _compiler() -> list[str]:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise OSError(f"no C++ compiler named {' or '.join(names)}")


def _compiled(compiler: list[str], sources: list[Path], folder: Path) -> bytes:
    """Return the library of the first variant that compiles and loads."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as draft:
        for number, variant in enumerate(_VARIANTS):
            built = Path(draft, f"{number}.so")
            command = [*compiler, *_FLAGS, *variant, "-o", str(built), *map(str, sources)]
            result = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
            if result.returncode == 0 and _loads(built):
                return built.read_bytes()
    raise OSError(f"{compiler[0]} failed: {result.stderr.decode(errors='replace')[-2000:]}")


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
