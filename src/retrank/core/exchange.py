"""Exchanging two directories at once, where the system can."""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = ["exchange"]

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2  # of Linux; RENAME_SWAP of macOS is 2 as well
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def exchange(first: Path, second: Path) -> bool:
    """Exchange what two names of one file system stand for, so that nobody ever finds one of them missing.

    Args:
        first: exists.
        second: exists.

    Returns:
        False if the system or this file system cannot; nothing has happened then.

    Raises:
        OSError: one of them does not exist, or may not be renamed.
    """
    rename = _rename()
    if rename is None:
        return False
    ctypes.set_errno(0)
    if rename(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


@cache
def _rename() -> Callable[[bytes, bytes], int] | None:
    # Python has no call for this. musl and old C libraries do not either, so its absence is no error.
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if hasattr(library, "renameat2"):  # Linux
        return lambda first, second: int(library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE))
    if hasattr(library, "renamex_np"):  # macOS
        return lambda first, second: int(library.renamex_np(first, second, _RENAME_EXCHANGE))
    return None
