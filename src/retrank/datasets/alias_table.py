"""`AliasTable`: draws from any distribution over numbers, each in constant time."""

from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["AliasTable"]


@final
class AliasTable:
    """Draws numbers from 0 to n - 1 with given probabilities.

    The numbers have a column each, all of one width. What a likely number has beyond its column fills up the columns
    of unlikely ones, so that each column belongs to two numbers at most: its own and its alias. A draw is a place in
    the columns, and two reads; a search in the cumulative probabilities takes twenty times as long.

    Args:
        probabilities: `(n,)`, at least one and fewer than 2³¹, none negative; they need not sum to one.

    Source: Walker, An efficient method for generating discrete random variables with general distributions, 1977.
    """

    def __init__(self, probabilities: NDArray[np.float64]) -> None:
        count = len(probabilities)
        heights = probabilities * (count / probabilities.sum())
        low, high = np.flatnonzero(heights < 1), np.flatnonzero(heights >= 1)
        if not len(high):  # all are 1 up to rounding
            low, high = low[:0], low
        # Low columns are filled one after another by the high ones in turn. A high one that sinks below 1 by its last
        # gift is filled by the next. Running sums say who gives to whom, since everything given was missing somewhere.
        missing, spare = np.cumsum(1 - heights[low]), np.cumsum(heights[high] - 1)
        given = np.concatenate([[0.0], missing])
        last = len(high) - 1
        aliases = np.arange(count)
        aliases[low] = high[np.searchsorted(spare, given[:-1], side="right").clip(max=last)]
        aliases[high[:-1]] = high[1:]
        sunk = np.searchsorted(given, spare, side="left")  # how many were filled when nothing was left to spare
        heights[high] = np.where(sunk <= len(low), 1 + spare - given[sunk.clip(max=len(low))], 1.0)
        heights[high[-1]] = 1.0  # the last has nobody to be filled by, and misses nothing but rounding
        self._shares = heights.clip(0, 1)
        self._numbers = np.stack([np.arange(count), aliases], axis=1).ravel().astype(np.int32)  # small, for the cache

    def probabilities(self) -> NDArray[np.float64]:
        """Return the probability of each number, `(n,)`, as it is drawn."""
        weights = np.stack([self._shares, 1 - self._shares], axis=1).ravel()
        return np.bincount(self._numbers, weights=weights, minlength=len(self._shares)) / len(self._shares)

    def draw(self, shape: int | tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
        """Draw numbers.

        Args:
            shape: of what is returned.
            rng: the source of chance.

        Returns:
            int32 numbers, independent of each other.
        """
        places = rng.random(shape)
        places *= len(self._shares)
        columns = places.astype(np.int64)
        places -= columns
        is_alias = places >= self._shares.take(columns, mode="clip")  # modes other than "raise" do not look twice
        columns *= 2
        columns += is_alias
        return self._numbers.take(columns, mode="clip")
