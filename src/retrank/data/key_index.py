"""`KeyIndex`: the place of a key among distinct keys, the one lookup behind vocabularies, catalogues and histories."""

from functools import cached_property
from typing import Self, final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError
from retrank.data.blocks import in_blocks
from retrank.data.key_tables import KeyTable, SingleKeys, key_table

__all__ = ["KeyIndex"]

_MERGE_FROM = 1 / 8  # of the old keys: with fewer new ones, the table of the old ones is kept

_FEW = 16  # keys that are found sooner one by one, where that has been prepared


@final
class KeyIndex:
    """Distinct keys and the place of each, a value: `with_added` returns another index.

    The tables that find keys are built at the first lookup; see `key_table`.

    Args:
        keys: distinct strings, integers or booleans, without nulls.

    Raises:
        DataError: a key is null or occurs twice.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = rr.data.KeyIndex(pl.Series("film", ["Heat", "Big"]))
        >>> films.find(pl.Series(["Big", "Alien"])).tolist(), films.place("Big")
        ([1, -1], 1)
        >>> films.with_added(pl.Series(["Alien"])).place("Alien")
        2
    """

    def __init__(self, keys: pl.Series) -> None:
        _require_distinct(keys)
        self._parts: tuple[pl.Series, ...] = (
            keys,
        )  # the keys of each table: first those of the large one, then what was added

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def dtype(self) -> pl.DataType:
        """The type of the keys."""
        return self._parts[0].dtype

    @cached_property
    def keys(self) -> pl.Series:
        """The keys by place."""
        return pl.concat(self._parts, rechunk=True) if len(self._parts) > 1 else self._parts[0]

    def keys_from(self, place: int) -> pl.Series:
        """Return the keys from a place on, without looking at the others if they were added of late."""
        first = len(self._parts[0])
        return self._parts[1][place - first :] if len(self._parts) > 1 and place >= first else self.keys[place:]

    def find(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """Look up many keys.

        Args:
            values: `(n,)` keys of the same dtype; null is found nowhere.

        Returns:
            `(n,)` int64, the place of each key, -1 where there is none.

        Raises:
            DataError: keys of another dtype.
        """
        if values.dtype != self.dtype:
            raise DataError(
                f"keys of type {self.dtype}", str(values.dtype), f"column '{values.name}'", "cast the column"
            )
        if not len(values):
            return np.empty(0, dtype=np.int64)
        if len(values) <= _FEW and "_singles" in self.__dict__:
            return np.array([-1 if key is None else self.place(key) for key in values], dtype=np.int64)
        places = in_blocks(values, np.int64, self._table.find)
        if self._added_table is not None:
            missing = np.flatnonzero(places < 0)
            added = self._added_table.find(values.gather(missing))
            places[missing] = np.where(added < 0, -1, added + len(self._parts[0]))
        return places

    def place(self, key: str | int) -> int:
        """Look up one key, some twenty times faster than `find` does.

        Args:
            key: of the type of the keys.

        Returns:
            Its place, -1 where there is none.
        """
        first = 0
        for part, singles in zip(self._parts, self._singles, strict=True):
            place = singles.place(key)
            if place >= 0:
                return first + place
            first += len(part)
        return -1

    def with_added(self, keys: pl.Series) -> Self:
        """Append keys.

        Args:
            keys: distinct keys of the same dtype, none of which is here.

        Returns:
            An index of all keys, which shares the table of the old ones unless many are added.

        Raises:
            DataError: a key is null, occurs twice or is here already.
        """
        if not len(keys) and keys.dtype == self.dtype:
            return self
        _require_distinct(keys)
        known = self.find(keys) >= 0
        if known.any():
            row = int(known.argmax())
            raise DataError("keys that are not here yet", f"{keys[row]!r}", f"column '{keys.name}'", row=row)
        added = pl.concat([*self._parts[1:], keys.rename(self._parts[0].name)], rechunk=True)
        index = type(self)(added.clear())
        if len(added) >= _MERGE_FROM * len(self._parts[0]):
            index._parts = (pl.concat([self._parts[0], added], rechunk=True),)
            return index
        index._parts = (self._parts[0], added)
        index.__dict__["_table"] = self._table  # what the cached property would build anew
        if "_singles" in self.__dict__:
            index.__dict__["_singles"] = (self._singles[0], SingleKeys(added))
        return index

    @cached_property
    def _table(self) -> KeyTable:
        return key_table(self._parts[0])

    @cached_property
    def _added_table(self) -> KeyTable | None:
        return key_table(self._parts[1]) if len(self._parts) > 1 else None

    @cached_property
    def _singles(self) -> tuple[SingleKeys, ...]:
        return tuple(map(SingleKeys, self._parts))


def _require_distinct(keys: pl.Series) -> None:
    if keys.null_count():
        row = int(keys.is_null().arg_max() or 0)
        raise DataError("keys without nulls", "null", f"column '{keys.name}'", row=row)
    if keys.n_unique() != len(keys):
        row = int(keys.is_first_distinct().not_().arg_max() or 0)
        raise DataError(
            "distinct keys", f"{keys[row]!r} again", f"column '{keys.name}'", "keep one row per key", row=row
        )
