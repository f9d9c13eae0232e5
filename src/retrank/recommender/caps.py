"""`Caps`: how many more candidates of each value a list may take."""

from collections.abc import Mapping
from typing import final

import numpy as np
import numpy.typing as npt

from retrank.core.jagged import Jagged

__all__ = ["Caps"]

Rows = npt.NDArray[np.int64]


@final
class Caps:
    """Counts what a list has taken.

    Args:
        limits: of each column.
        members: of each column, the values of all candidates.
        rows: `(n,)` the candidates that the list may take, by row of the catalogue; from here on called by place.

    Example:
        >>> import numpy as np, retrank as rr
        >>> from retrank.recommender.caps import Caps
        >>> caps = Caps({"genre": 1}, {"genre": rr.Jagged.from_lists([[0], [0, 1], [1]])}, np.array([2, 0, 1]))
        >>> caps.take(1)
        >>> caps.admits(0), caps.admits(2)
        (True, False)
    """

    def __init__(self, limits: Mapping[str, int], members: Mapping[str, Jagged], rows: Rows) -> None:
        self._columns = [(most, _Values(members[name], rows), dict[int, int]()) for name, most in limits.items()]

    def admits(self, place: int) -> bool:
        """Return whether one more candidate would break no cap."""
        return all(taken.get(value, 0) < most for most, values_of, taken in self._columns for value in values_of[place])

    def take(self, place: int) -> None:
        """Count a candidate."""
        self._count(place, 1)

    def give_back(self, place: int) -> None:
        """Count a candidate no more."""
        self._count(place, -1)

    def _count(self, place: int, by: int) -> None:
        for _, values_of, taken in self._columns:
            for value in values_of[place]:
                taken[value] = taken.get(value, 0) + by


@final
class _Values:
    """The values of the candidates of a list, looked up when they are asked for: most never are."""

    def __init__(self, members: Jagged, rows: Rows) -> None:
        offsets, self._values = members.offsets.numpy(), members.values.numpy()
        self._firsts, self._lasts = offsets[rows].tolist(), offsets[rows + 1].tolist()

    def __getitem__(self, place: int) -> list[int]:
        found: list[int] = self._values[self._firsts[place] : self._lasts[place]].tolist()
        return found
