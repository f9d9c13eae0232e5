"""Kernels in C++ for what torch cannot do at the speed of the machine: built by the machine's own compiler, once.

`is_native` says whether they can take some tensors, and `call` runs one. Everything they do has a twin in plain torch,
which serves where there is no compiler, on a GPU, and with `RETRANK_NATIVE=0`. `without_kernels` is for comparing the
two. The sources beside this file use nothing but the C++ standard library.
"""

from retrank.core.native.build import library
from retrank.core.native.kernels import call, is_native, tile_shape, without_kernels

__all__ = ["call", "is_native", "library", "tile_shape", "without_kernels"]
