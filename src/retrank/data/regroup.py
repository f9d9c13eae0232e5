"""Cut a stream of pieces of any size into pieces of one size."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Protocol, Self, TypeVar

__all__ = ["Rows", "regroup"]


class Rows(Protocol):
    """Something with rows that can be sliced, e.g. a `Batch` or a polars table."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


T = TypeVar("T", bound=Rows)


def regroup(pieces: Iterable[T], *, size: int, concat: Callable[[list[T]], T], first: int | None = None) -> Iterator[T]:
    """Cut and join pieces so that each has the same number of rows.

    Args:
        pieces: the rows, in pieces of any size.
        size: rows of each piece that comes out, at least 1; only the last may have fewer.
        concat: joins pieces.
        first: rows of the first piece, at least 1; `size` by default.

    Yields:
        The same rows in the same order; no piece is empty.

    Example:
        >>> from retrank.data.regroup import regroup
        >>> list(regroup(["abc", "d", "efgh"], size=3, concat="".join, first=2))
        ['ab', 'cde', 'fgh']
    """
    sizes = chain([first or size], repeat(size))
    held: list[T] = []
    missing = next(sizes)
    for piece in pieces:
        while len(piece) >= missing:
            part, piece = piece[:missing], piece[missing:]
            yield concat([*held, part]) if held else part
            held, missing = [], next(sizes)
        if len(piece):
            held.append(piece)
            missing -= len(piece)
    if held:
        yield concat(held) if len(held) > 1 else held[0]
