"""What torch does while a block runs: which operations, and how much memory they take."""

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Recorded(TorchDispatchMode):
    """Count the operations, and note the size of all memory that they allocate."""

    def __init__(self):
        super().__init__()
        self.operations, self.largest, self.total = Counter(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        before = {address for leaf in given for address in _addresses(leaf)}
        result = function(*args, **(kwargs or {}))
        self.operations[function.overloadpacket._qualified_op_name] += 1
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided and not _addresses(leaf) & before:
                size = leaf.untyped_storage().nbytes()
                self.largest, self.total = max(self.largest, size), self.total + size
        return result

    @property
    def num_operations(self):
        return self.operations.total()


def _addresses(tensor):
    parts = [tensor] if tensor.layout == torch.strided else [tensor._indices(), tensor._values()]
    return {part.untyped_storage().data_ptr() for part in parts}


class PeakMemory:
    """Bytes by which the process grew at most."""

    grown = 0


@contextmanager
def peak_memory():
    """Measure by how much memory the process grows, that of kernels included, which no profiler of torch sees."""
    try:
        _RESET.write_text("5")  # the peak is now what is in use
    except OSError:
        pytest.skip("the peak of the memory can only be measured on Linux")
    before, peak = _kilobytes("VmRSS"), PeakMemory()
    yield peak
    peak.grown = (_kilobytes("VmHWM") - before) * 1024


def _kilobytes(name):
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])
