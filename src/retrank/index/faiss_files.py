"""Faiss's own files, read without trust."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from retrank.core.errors import StorageError

__all__ = ["faiss_reason", "parse_faiss", "write_faiss"]

_LARGER: Final = 16  # tables that are computed from what the file holds
_LEAST_LIMIT: Final = 2**28

_lock = threading.Lock()


def write_faiss(faiss: Any, index: Any, file: Path) -> None:
    """Write an index of Faiss.

    Args:
        faiss: the module.
        index: of Faiss.
        file: in a draft.

    Raises:
        StorageError: the file cannot be written, e.g. because the disk is full.
    """
    try:
        faiss.write_index(index, str(file))
    except RuntimeError as error:
        raise StorageError("a file that can be written", faiss_reason(error), str(file), "check the disk") from error


def parse_faiss(faiss: Any, content: bytes, where: str) -> Any:
    """Read the content of a file of Faiss.

    Args:
        faiss: the module.
        content: of the file.
        where: the file, for messages.

    Returns:
        An index of Faiss.

    Raises:
        StorageError: the content is damaged.
    """
    try:
        with _vectors_of_at_most(faiss, max(_LARGER * len(content), _LEAST_LIMIT)):
            return faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    except (RuntimeError, MemoryError, ValueError) as error:
        raise StorageError("an index of Faiss", faiss_reason(error), where, "save the index anew") from error


@contextmanager
def _vectors_of_at_most(faiss: Any, size: int) -> Iterator[None]:
    """Have Faiss refuse a vector that its file cannot hold, before it makes room for it."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # versions before 1.14
        yield
        return
    with _lock:  # the limit is one for the process
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def faiss_reason(error: BaseException) -> str:
    """Return what Faiss says, without the place in its sources.

    Args:
        error: that it raised.
    """
    return str(error).rpartition("Error: ")[2].strip() or type(error).__name__
