"""`retain_freed_memory`: memory that one step frees is still there for the next."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

__all__ = ["retain_freed_memory"]

# Of glibc's malloc.h, and the values that its own rule ends at once a program has freed a large block.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP: Final = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_RESTORE: Final = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 65_536}


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep freed memory within the block, and give all of it back to the system at the end.

    By default glibc gives large blocks back at once. A training step that needs the same 100 MB again then waits for
    the system to hand out, and clear, every page of them: up to half of its time. Does nothing with another C library.
    Blocks may be nested, also in threads; the outermost counts, for the whole process.

    Example:
        >>> from retrank.core.allocator import retain_freed_memory
        >>> with retain_freed_memory():
        ...     steps = [bytearray(10**7) for _ in range(3)]
    """
    _heap.enter()
    try:
        yield
    finally:
        _heap.leave()


@final
class _Heap:
    """The heap of this process, which keeps what is freed while at least one block wants it to."""

    def __init__(self, library: Any) -> None:
        self.num_blocks = 0
        self._library = library  # None: another C library
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks
            os.register_at_fork(after_in_child=self._renew_lock)

    def enter(self) -> None:
        """Begin a block."""
        with self._lock:
            self.num_blocks += 1
            if self.num_blocks == 1:
                self._set(_KEEP)

    def leave(self) -> None:
        """End a block."""
        with self._lock:
            self.num_blocks -= 1
            if self.num_blocks == 0:
                self._set(_RESTORE)
                if self._library is not None:
                    self._library.malloc_trim(0)

    def _set(self, options: dict[int, int]) -> None:
        if self._library is not None:
            for option, value in options.items():
                self._library.mallopt(option, value)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def _glibc() -> Any:
    """Return the C library, None if it has other means."""
    try:
        library = ctypes.CDLL(None)
        return library if library.gnu_get_libc_version and library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError, TypeError):  # TypeError: Windows wants a name
        return None


_heap: Final = _Heap(_glibc())
