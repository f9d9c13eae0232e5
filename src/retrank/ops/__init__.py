"""Numeric operations, one file each: what it computes, in plain torch, and the kernels that do the same faster.

Whoever needs one calls its function; which implementation runs is decided here and nowhere else.
"""

__all__: list[str] = []
