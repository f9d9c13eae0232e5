"""Run tests with kernels that watch every access to memory: GCC's AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/sanitize.py                      # all tests that run kernels, with 1 and with 2 threads
    python tools/sanitize.py tests/ops -k dense   # or what pytest is told

The kernels are built with `-fsanitize` into a cache of their own, and the sanitizer's runtime is loaded before Python.
The first finding ends the run with a report and exit code 1. Needs GCC on Linux.
"""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
COMPILER = "g++ -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
TESTS = [
    "ops",
    "core/test_native.py",
    "core/test_jagged.py",
    "optim",
    "index",
    "layers",
    "embeddings",
    "tasks",
    "metrics",
]
LEFT_OUT = "not slow and not network"
# Tests that count memory, or that start processes with compilers of their own, see the sanitizer and not the kernels.
DESELECTED = "not peak and not memory and not compiler and not process and not built and not scores_of_a_large_batch"

BUILT = """
import sys, retrank as rr
build = rr.core.native.current_build()
print(build.reason or build.kept.path)
sys.exit(build.library is None)
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
        "PYTHONPATH": str(PROJECT / "src"),
        "RETRANK_NATIVE": "1",
    }
    require = (
        "import retrank as rr, sys; b = rr.core.native.current_build(); print(b.kept, b.reason); sys.exit(not b.kept)"
    )
    if subprocess.run([sys.executable, "-c", require], env=environment, cwd=PROJECT, check=False).returncode:
        return 1
    for threads in ("1", "2"):
        print(f"sanitizers, {threads} threads", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", LEFT_OUT, *tests]
        run = subprocess.run(command, env={**environment, "RETRANK_TEST_THREADS": threads}, cwd=PROJECT, check=False)
        if run.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
