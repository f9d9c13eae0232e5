"""Partial statistics: what one part of a table says about a feature, and how two parts merge.

Everything a feature learns goes through these, so a table that streams by, or lies in shards on many machines,
teaches exactly what the same rows teach in one piece.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError
from retrank.features.counting import count_cells, count_keys

__all__ = ["Agreement", "KeyCounts", "Moments", "Summary", "ValueCounts"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Summary(ABC):
    """The statistics of some rows of a column. Merging is associative and commutative."""

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """Return the statistics of the rows of both.

        Args:
            other: the statistics of other rows of the same column.
        """


@final
@dataclass(frozen=True)
class Agreement(Summary):
    """A fact that all parts must agree on, such as the type of a column.

    Args:
        fact: a plain value; None where a part says nothing.
    """

    fact: Any = None

    def merge(self, other: Self) -> Self:
        """Return the fact.

        Args:
            other: the fact of another part.

        Raises:
            DataError: the parts differ.
        """
        if self.fact is None or other.fact is None:
            return other if self.fact is None else self
        if self.fact != other.fact:
            raise DataError(f"{self.fact} in every part of the table", str(other.fact), "partial statistics")
        return self


@final
@dataclass(frozen=True, eq=False)
class KeyCounts(Summary):
    """How often each key occurs.

    Args:
        frame: the columns `key` (distinct, no nulls) and `count` (int64), in any order.
    """

    frame: pl.DataFrame

    @classmethod
    def of(cls, keys: pl.Series) -> Self:
        """Count the keys of some rows.

        Args:
            keys: `(n,)` keys; nulls do not count.

        Returns:
            Their counts.
        """
        return cls(count_keys(keys.rename("key").drop_nulls()))

    def merge(self, other: Self) -> Self:
        """Add up.

        Args:
            other: the counts of other rows.

        Raises:
            DataError: the keys are of another type.
        """
        mine, theirs = self.frame.schema["key"], other.frame.schema["key"]
        if mine != theirs:
            raise DataError(f"keys of type {mine} in every part of the table", str(theirs), "partial statistics")
        both = pl.concat([self.frame, other.frame])
        return type(self)(count_keys(both["key"], both["count"]))

    def ranked(self, min_count: int) -> pl.DataFrame:
        """Sort by count, the greatest first, and by key, the last first.

        Args:
            min_count: rows with a lower count are left out.

        Returns:
            The columns `key` and `count`.
        """
        return self.frame.filter(pl.col("count") >= min_count).sort("count", "key", descending=True)


@final
@dataclass(frozen=True)
class Moments(Summary):
    """Count, mean and squared deviation of numbers.

    Args:
        count: how many.
        mean: their mean; 0 if there are none.
        deviation: the sum of squared differences from the mean; exactly 0 if all are equal.
        differ: whether any two differ, though their squares may be 0 in float64.

    Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """

    count: int
    mean: float
    deviation: float
    differ: bool = False

    @classmethod
    def of(cls, numbers: Floats) -> Self:
        """Measure some rows.

        Args:
            numbers: `(n,)` finite float64.

        Returns:
            Their moments.
        """
        if not len(numbers):
            return cls(0, 0.0, 0.0)
        shifted = numbers - numbers[0]  # equal numbers become exact zeros, and large offsets lose no digits
        mean = float(shifted.mean())
        differ = bool(shifted.any())
        shifted -= mean
        return cls(len(numbers), float(numbers[0]) + mean, float(np.square(shifted, out=shifted).sum()), differ)

    @property
    def variance(self) -> float:
        """The population variance."""
        return self.deviation / self.count if self.count else 0.0

    def merge(self, other: Self) -> Self:
        """Combine.

        Args:
            other: the moments of other rows.
        """
        if not self.count or not other.count:
            return other if not self.count else self
        count, distance = self.count + other.count, other.mean - self.mean
        return type(self)(
            count,
            self.mean + distance * other.count / count,
            self.deviation + other.deviation + distance**2 * self.count * other.count / count,
            self.differ or other.differ or self.mean != other.mean,
        )


_MANTISSA_BITS: Final = 52
_MAX_VALUES: Final = 2**18
_CELL_BITS: Final = 18
_MAX_CELLS: Final = 2**21


@final
@dataclass(frozen=True, eq=False)
class ValueCounts(Summary):
    """How often each number occurs: exact while there are at most 262,144 different numbers.

    With more, every number loses low mantissa bits, as few as bring the different numbers down to that bound. The
    result depends on the numbers alone, never on their order or on how they were split into parts, and is off by at
    most one part in `2**bits`.

    Args:
        values: `(v,)` ascending distinct float64.
        counts: `(v,)` int64.
        bits: mantissa bits that were kept; 52 is exact.

    Source: the relative buckets of DDSketch (Masson, Rim, Lee 2019), with powers of two so that coarse buckets are
    unions of fine ones. Keras' summary keeps 100 values and depends on the order of the batches.
    """

    values: Floats
    counts: Counts
    bits: int = _MANTISSA_BITS

    @classmethod
    def of(cls, numbers: Floats) -> Self:
        """Count the numbers of some rows.

        Args:
            numbers: `(n,)` finite float64.

        Returns:
            Their counts.
        """
        return cls._collect(numbers, None, _MANTISSA_BITS)

    def merge(self, other: Self) -> Self:
        """Add up.

        Args:
            other: the counts of other rows.
        """
        values, counts = np.concatenate([self.values, other.values]), np.concatenate([self.counts, other.counts])
        return self._collect(values, counts, min(self.bits, other.bits))

    def quantiles(self, parts: int) -> Floats:
        """Cut the numbers into parts of equal size.

        Args:
            parts: how many.

        Returns:
            `(parts - 1,)` ascending cuts: for q = 1/parts, 2/parts, ... the value at place q * n of the sorted
            numbers (from 1), interpolated between its neighbours. All but the greatest number if there are fewer
            numbers than parts.

        Source: type 4 of Hyndman and Fan 1996, as in Keras' `Discretization`, which is exact up to 100 numbers.
        """
        ends = np.cumsum(self.counts)
        total = int(ends[-1]) if len(ends) else 0
        if total < parts:
            return np.repeat(self.values, self.counts)[:-1]
        steps = np.arange(1, parts, dtype=np.int64) * total
        below, share = steps // parts, (steps % parts) / parts
        lower = self.values[np.searchsorted(ends, np.maximum(below, 1))]
        upper = self.values[np.searchsorted(ends, below + 1)]
        between = lower * (1 - share) + upper * share
        return np.asarray(np.where((below < 1) | (lower == upper), lower, between), dtype=np.float64)

    @classmethod
    def _collect(cls, values: Floats, counts: Counts | None, bits: int) -> Self:
        collected = cls._in_cells(values, counts, bits)
        return cls._sorted(values, counts, bits) if collected is None else collected

    @classmethod
    def _in_cells(cls, values: Floats, counts: Counts | None, bits: int) -> Self | None:
        """Count without sorting, in an array of the coarse values; None where that does not fit or loses digits."""
        words, kept = values.view(np.int64), min(bits, _CELL_BITS)
        if not len(words) or (least := int(words.min()) >> (_MANTISSA_BITS - kept)) < 0:  # a sign bit reverses order
            return None
        cells = words >> (_MANTISSA_BITS - kept)
        cells -= least
        if int(cells.max()) >= _MAX_CELLS:
            return None
        totals = count_cells(cells, counts)
        if np.count_nonzero(totals) > _MAX_VALUES:
            bits = kept
            while np.count_nonzero(totals) > _MAX_VALUES:
                totals = np.pad(totals, (least % 2, (len(totals) + least) % 2))
                totals = totals[::2] + totals[1::2]
                bits, least = bits - 1, least // 2
            kept = bits
        elif kept < bits and (words & ((1 << (_MANTISSA_BITS - kept)) - 1)).any():
            return None
        found = np.flatnonzero(totals)
        return cls(((found + least) << (_MANTISSA_BITS - kept)).view(np.float64), totals[found], bits)

    @classmethod
    def _sorted(cls, values: Floats, counts: Counts | None, bits: int) -> Self:
        if counts is None:
            values = np.sort(values)
        else:
            order = np.argsort(values, kind="stable")  # fast where two ascending parts are merged
            values, counts = values[order], counts[order]
        values = _truncate(values, bits)
        if _num_distinct(values) > _MAX_VALUES:
            low, high = 0, bits  # too many at `high`; a few thousand, one an exponent, at 0
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _num_distinct(_truncate(values, middle)) > _MAX_VALUES else (middle, high)
            bits, values = low, _truncate(values, low)
        starts = np.flatnonzero(_is_new(values))
        if counts is None:
            counts = np.diff(starts, append=len(values))
        elif len(starts):
            counts = np.add.reduceat(counts, starts)
        return cls(values[starts], counts, bits)


def _truncate(values: Floats, bits: int) -> Floats:
    """Drop low mantissa bits, towards zero: ascending values stay ascending, and fewer bits join whole neighbours."""
    dropped = np.int64(_MANTISSA_BITS - bits)
    return (values.view(np.int64) >> dropped << dropped).view(np.float64) + 0.0  # + 0.0 turns -0.0 into 0.0


def _is_new(ascending: Floats) -> npt.NDArray[np.bool_]:
    """Tell which values differ from the one before."""
    return np.concatenate([np.ones(min(len(ascending), 1), dtype=np.bool_), ascending[1:] != ascending[:-1]])


def _num_distinct(ascending: Floats) -> int:
    return int(np.count_nonzero(_is_new(ascending)))
