"""What is freed within the block is there for the next step, and is given back after it."""

import ctypes
import resource
import threading

import numpy as np
import pytest

from retrank.core import allocator
from retrank.core.allocator import retain_freed_memory

MEGABYTES = 2**20


def faults_of(run):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def step():
    arrays = [np.ones(40 * MEGABYTES // 8) for _ in range(3)]
    assert all(array[-1] == 1 for array in arrays)


@pytest.mark.skipif(allocator._glibc() is None, reason="another C library")
def test_a_step_finds_the_memory_of_the_one_before():
    with retain_freed_memory():
        step()
        warm = faults_of(step)
    with retain_freed_memory():  # the memory was given back in between
        cold = faults_of(step)
    assert warm < cold / 5


def test_blocks_may_be_nested_and_in_threads():
    def work():
        for _ in range(3):
            with retain_freed_memory(), retain_freed_memory():
                step()

    threads = [threading.Thread(target=work) for _ in range(3)]
    with retain_freed_memory():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert allocator._heap.num_blocks == 0
    step()


def test_an_error_within_ends_it():
    with pytest.raises(RuntimeError), retain_freed_memory():
        raise RuntimeError
    assert allocator._heap.num_blocks == 0


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("none")))
    assert allocator._glibc() is None
    monkeypatch.setattr(allocator, "_heap", allocator._Heap(None))
    with retain_freed_memory():
        step()


def test_the_outermost_of_blocks_in_many_threads_counts():
    class Library:
        def __init__(self):
            self.calls = []

        def mallopt(self, option, value):
            self.calls.append(option)

        def malloc_trim(self, padding):
            self.calls.append("trim")

    library = Library()
    heap = allocator._Heap(library)
    heap.enter()

    def work():
        for _ in range(200):
            heap.enter()
            heap.leave()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(library.calls) == len(allocator._KEEP)
    heap.leave()
    assert library.calls.count("trim") == 1
