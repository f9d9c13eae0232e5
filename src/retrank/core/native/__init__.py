"""Kernels in C++ for what torch cannot do at the speed of the machine: built by the machine's own compiler, once.

Everything they do has a twin in plain torch, which serves where there is no compiler, on a GPU, and with
`RETRANK_NATIVE=0`. Only `ops` asks for them: `is_native` says whether they can take some tensors, and `call` runs one,
after checking every tensor against what the kernel declares. `without_kernels` is for comparing the two. The sources
beside this file use nothing but the C++ standard library.
"""

from retrank.core.native.build import Build, current_build, library, operations, retry
from retrank.core.native.kernels import BoundKernel, bind, call, is_native, tile_shape, without_kernels
from retrank.core.native.threads import num_threads

__all__ = [
    "BoundKernel",
    "Build",
    "bind",
    "call",
    "current_build",
    "is_native",
    "library",
    "num_threads",
    "operations",
    "retry",
    "tile_shape",
    "without_kernels",
]
