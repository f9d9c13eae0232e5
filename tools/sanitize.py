"""Run tests with kernels that watch every access to memory: GCC's AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/sanitize.py                      # all tests that run kernels, with 1 and with 2 threads
    python tools/sanitize.py tests/ops -k dense   # or what pytest is told

The kernels are built with `-fsanitize` into a cache of their own, and the sanitizer's runtime is loaded before Python.
The first finding ends the run with a report on standard error and exit code 1.
An overflow that is planted first must be reported.
Needs GCC on Linux.
"""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
COMPILER = "g++ -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
TESTS = ["ops", "core", "optim", "index", "layers", "embeddings", "tasks", "metrics", "losses", "recommender"]
LEFT_OUT = "not slow and not network"
# Tests that count memory see the sanitizer; processes that they start lack its runtime, or have compilers of their own.
UNFIT = ["memory", "compiler", "process", "fork", "built", "large_batch", "optimised"]
DESELECTED = " and ".join(f"not {word}" for word in UNFIT)

BUILT = """
import sys, retrank as rr
build = rr.core.native.current_build()
print(build.reason or build.kept.path)
sys.exit(build.library is None)
"""

OVERFLOW = """
import ctypes, torch, retrank as rr
memory = torch.zeros(1, dtype=torch.int64)
rr.core.native.library()["tile_shape"](ctypes.c_int64(1), ctypes.c_void_p(memory.data_ptr()))  # writes three
"""


def runtime(name: str) -> str:
    """Return the path of a library that belongs to GCC."""
    return subprocess.run(
        ["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> int:
    given = sys.argv[1:]
    tests = given or [*(f"tests/{name}" for name in TESTS), "-k", DESELECTED]
    environment = {
        **os.environ,
        "CXX": COMPILER,
        "XDG_CACHE_HOME": str(PROJECT / ".sanitize"),
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
        # Python and torch keep memory until the end on purpose; a crash must end the tests and not become an exception.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:halt_on_error=1:handle_segv=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
        "PYTHONMALLOC": "malloc",  # arrays of Python, too, end where they end
        "PYTHONPATH": str(PROJECT / "src"),
        "RETRANK_NATIVE": "1",
    }
    if subprocess.run([sys.executable, "-c", BUILT], env=environment, check=False).returncode:
        return 1
    planted = subprocess.run(
        [sys.executable, "-c", OVERFLOW], env=environment, capture_output=True, text=True, check=False
    )
    if "heap-buffer-overflow" not in planted.stderr:
        print("the sanitizer does not report a planted overflow:", planted.stderr)
        return 1
    for threads in ("1", "2"):
        print(f"sanitizers, {threads} threads", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-qx",
            "--capture=sys",
            "-p",
            "no:cacheprovider",
            "-m",
            LEFT_OUT,
            *tests,
        ]
        run = subprocess.run(command, env={**environment, "RETRANK_TEST_THREADS": threads}, cwd=PROJECT, check=False)
        if run.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
