"""`num_threads`: as many as torch uses, and one in a forked process, where OpenMP's other threads are missing."""

import os
from typing import Final, final

import torch

__all__ = ["num_threads"]


def num_threads() -> int:
    """Say how many threads a kernel may use.

    The threads of OpenMP do not survive a fork, yet GNU's OpenMP waits for them in the child, for ever. Hence a child
    of a process whose kernels have used several threads computes with one, and torch, whose operations would wait in
    the same way, is told to do so, too, when the child first asks.

    Returns:
        At least 1.
    """
    return _team.size()


@final
class _Team:
    def __init__(self) -> None:
        self._was_used = self._is_lost = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._lose)

    def size(self) -> int:
        size = torch.get_num_threads()
        if self._is_lost:
            if size > 1:
                torch.set_num_threads(1)
            return 1
        if size > 1:
            self._was_used = True
        return size

    def _lose(self) -> None:
        self._is_lost = self._was_used


_team: Final = _Team()
