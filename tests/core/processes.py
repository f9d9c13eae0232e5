"""Processes that write, read and die at the same time: `python -m tests.core.processes beside|kills FOLDER NUMBER`.

A version of a directory holds one number in all its files, so that a mixture shows.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from retrank.core.directories import atomic_directory
from retrank.core.files import write_text
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import read_directory

FILES = ("first.txt", "deep/second.txt", "large.txt")


def save(directory, number):
    with atomic_directory(directory) as draft:
        for name in FILES:
            write_text(draft / name, f"{number} " * (20_000 if name == "large.txt" else 1))
        write_manifest(draft, {"format": "retrank.test", "version": number})


def load(directory):
    """Return the number of a version, whose files must all hold it."""

    def parse(snapshot):
        numbers = {part for name in FILES for part in snapshot.read(name).split()}
        assert numbers == {str(snapshot.payload["version"]).encode()}, "a mixture"
        return snapshot.payload["version"]

    return read_directory(directory, parse)


def child(work):
    """Run a function in a process of its own; its exit code tells whether it succeeded."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def write_until(directory, end, number):
    while time.monotonic() < end:
        save(directory, number)
        number += 2


def read_until(directory, end):
    while time.monotonic() < end:
        load(directory)


def beside(folder, seconds):
    """Two writers and two readers of one directory."""
    directory, end = folder / "directory", time.monotonic() + seconds
    save(directory, 0)
    works = [lambda n=n: write_until(directory, end, n) for n in (1, 2)] + [lambda: read_until(directory, end)] * 2
    codes = [os.waitpid(process, 0)[1] for process in [child(work) for work in works]]
    assert codes == [0, 0, 0, 0], codes
    assert [path.name for path in folder.iterdir()] == ["directory"]


def kills(folder, times):
    """Kill a writer at any moment; a whole version is left, never an older one than before."""
    directory, before = folder / "directory", 0
    save(directory, before)
    for seed in range(times):
        process = child(lambda first=before + 1: write_until(directory, time.monotonic() + 60, first))
        time.sleep(random.Random(seed).uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        after = load(directory)
        assert after >= before, (before, after)
        before = after
    save(directory, 0)
    assert [path.name for path in folder.iterdir()] == ["directory"]


if __name__ == "__main__":
    {"beside": beside, "kills": kills}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
