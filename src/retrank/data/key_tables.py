"""From keys to their places in one read of memory: by the key itself, or by a hash that is checked."""

from abc import ABC, abstractmethod
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["DenseTable", "HashTable", "KeyTable", "SingleKeys", "is_dense", "key_table"]

Places = npt.NDArray[np.int64]

_SPARSE: Final = 8
_SMALL: Final = 2**10
_LEAST_BITS: Final = 12  # so that few keys seldom want one slot


class KeyTable(ABC):
    """The place of each of some distinct keys."""

    @abstractmethod
    def find(self, values: pl.Series) -> Places:
        """Look keys up.

        Args:
            values: `(n,)` keys of the same dtype.

        Returns:
            `(n,)` the place of each, -1 for null and for what is not here.
        """


@final
class DenseTable(KeyTable):
    """Integers that lie close together: an array that the key itself points into.

    Args:
        keys: `(n,)` distinct `pl.Int64`, at least one.

    Example:
        >>> import polars as pl
        >>> from retrank.data.key_tables import DenseTable
        >>> DenseTable(pl.Series([7, 5])).find(pl.Series([5, 6, 7, None])).tolist()
        [1, -1, 0, -1]
    """

    def __init__(self, keys: pl.Series) -> None:
        array = keys.to_numpy()
        self._least = array.min()
        self._places = np.full(int(array.max()) - int(self._least) + 2, -1)  # the last one is for all other keys
        self._places[array - self._least] = np.arange(len(array))

    def find(self, values: pl.Series) -> Places:
        """Look keys up; see `KeyTable.find`."""
        missing = values.is_null().to_numpy() if values.null_count() else None
        array = (values if missing is None else values.fill_null(0)).to_numpy()
        beyond = np.uint64(len(self._places) - 1)
        offsets = np.minimum((array - self._least).view(np.uint64), beyond)  # below the least key, wraps to the top
        places: Places = self._places.take(offsets.view(np.int64), mode="clip")
        if missing is not None:
            places[missing] = -1
        return places


@final
class HashTable(KeyTable):
    """Keys of any type: a hash points to one key, which is compared.

    Where several keys want a slot the first one gets it, and the others go to the next level, with another hash.
    At least half of the slots stay empty, so most keys are found on the first level, above all the first keys.

    Args:
        keys: `(n,)` distinct `pl.Int64`, `pl.String` or `pl.Boolean`.

    Example:
        >>> import polars as pl
        >>> from retrank.data.key_tables import HashTable
        >>> HashTable(pl.Series(["Heat", "Big"])).find(pl.Series(["Big", "Alien", None])).tolist()
        [1, -1, -1]
    """

    def __init__(self, keys: pl.Series) -> None:
        self._keys = pl.concat([keys, keys.clear(1)], rechunk=True)  # an empty slot points to the null at the end
        self._levels: list[npt.NDArray[np.uint32]] = []
        places = np.arange(len(keys), dtype=np.uint32)
        while len(places):
            slots = np.full(2 ** max((2 * len(places)).bit_length(), _LEAST_BITS), len(keys), dtype=np.uint32)
            wanted = _slots_of(keys.gather(places), len(self._levels), len(slots))
            slots[wanted[::-1]] = places[::-1]  # the last one written stays
            places = places[slots[wanted] != places]
            self._levels.append(slots)

    def find(self, values: pl.Series) -> Places:
        """Look keys up; see `KeyTable.find`."""
        return self._find(values, 0)

    def _find(self, values: pl.Series, level: int) -> Places:
        if level == len(self._levels):
            return np.full(len(values), -1)
        slots = self._levels[level]
        candidates = slots.take(_slots_of(values, level, len(slots)), mode="clip")
        same = self._keys[pl.Series(candidates)] == values  # null where the slot is empty or the value is null
        places = candidates.astype(np.int64)
        if same.null_count():
            places[same.is_null().to_numpy()] = -1
            same = same.fill_null(True)
        others = np.flatnonzero(~same.to_numpy())
        if len(others):
            places[others] = self._find(values[others], level + 1)
        return places


@final
class SingleKeys:
    """Finds one key at a time, without the fixed cost of a column: Python's own hashes, sorted.

    No Python object is kept per key, only 16 bytes.

    Args:
        keys: `(n,)` distinct `pl.Int64`, `pl.String` or `pl.Boolean`.

    Example:
        >>> import polars as pl
        >>> from retrank.data.key_tables import SingleKeys
        >>> SingleKeys(pl.Series(["Heat", "Big"])).place("Big")
        1
    """

    def __init__(self, keys: pl.Series) -> None:
        self._keys = keys
        hashes = np.fromiter(map(hash, keys.to_list()), np.int64, len(keys))
        self._places = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._places]

    def place(self, key: str | int) -> int:
        """Return the place of a key, -1 where there is none."""
        wanted = hash(key)
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            place = int(self._places[at])
            if self._keys[place] == key:
                return place
            at += 1
        return -1


def _slots_of(keys: pl.Series, level: int, num_slots: int) -> npt.NDArray[np.int64]:
    shift = np.uint64(65 - num_slots.bit_length())
    return (keys.hash(level).to_numpy() >> shift).view(np.int64)


def key_table(keys: pl.Series) -> KeyTable:
    """Choose a table.

    Args:
        keys: `(n,)` distinct `pl.Int64`, `pl.String` or `pl.Boolean`.

    Returns:
        A `DenseTable` of integers that fill at least an eighth of their range (or any range below 1,024), otherwise
        a `HashTable`.
    """
    return DenseTable(keys) if is_dense(keys, max(_SPARSE * len(keys), _SMALL)) else HashTable(keys)


def is_dense(keys: pl.Series, most: int) -> bool:
    """Tell whether keys can be offsets into an array.

    Args:
        keys: `(n,)` keys without nulls.
        most: the length that the array may have.

    Returns:
        Whether they are integers, at least one, in a range of at most this length.
    """
    return keys.dtype == pl.Int64 and len(keys) > 0 and int(keys.max()) - int(keys.min()) < most  # type: ignore[arg-type]
