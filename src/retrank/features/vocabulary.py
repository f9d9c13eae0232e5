"""`Vocabulary`: keys and their ids, most frequent first."""

from pathlib import Path
from typing import Final, Self, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError, StorageError
from retrank.core.parquet import read_parquet, write_parquet
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType, as_keys, key_type
from retrank.features.statistics import KeyCounts

__all__ = ["Vocabulary"]

_KEY: Final = "key"
_COUNT: Final = "count"


@final
class Vocabulary:
    """Distinct keys, the id of each, and how often each occurred.

    The first key has id 2: 0 is padding and 1 is every key that is not here.

    Args:
        keys: `(n,)` distinct strings, integers or booleans, in id order.
        counts: `(n,)` occurrences of each.

    Raises:
        DataError: a key is null, occurs twice or is of another type; or there are not as many counts as keys.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = rr.features.Vocabulary.count(pl.Series("film", ["Heat", "Big", "Heat", "Alien"]))
        >>> films.keys.to_list(), films.counts.tolist(), films.num_ids
        (['Heat', 'Big', 'Alien'], [2, 1, 1], 5)
        >>> films.ids(pl.Series(["Alien", "Jaws"]))
        tensor([4, 1])

    Source: the order is that of Keras' `StringLookup`: count descending, ties key descending. Ours has the same order
    for integers, and ids 0 and 1 are always special.
    """

    def __init__(self, keys: pl.Series, counts: npt.ArrayLike) -> None:
        self._index = KeyIndex(as_keys(keys, None, "error"))
        self.key_type: KeyType = key_type(keys)
        self.counts: npt.NDArray[np.int64] = np.array(counts, dtype=np.int64)
        if self.counts.shape != (len(keys),):
            raise DataError(f"{len(keys)} counts", f"shape {self.counts.shape}", "Vocabulary")

    @classmethod
    def count(cls, values: pl.Series) -> Self:
        """Build from a column in which keys repeat.

        Args:
            values: `(n,)` keys; nulls do not count.

        Returns:
            All keys of the column, most frequent first, ties in descending order of the key.

        Raises:
            DataError: the column is not of keys.
        """
        return cls.from_counts(KeyCounts.of(as_keys(values, None, "unknown")))

    @classmethod
    def from_counts(cls, counts: KeyCounts, *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Build from the counts of a whole data set.

        Args:
            counts: occurrences by key.
            min_count: keys that occur less often are left out.
            max_size: at most this many keys are kept, the most frequent.

        Returns:
            The vocabulary, most frequent key first, ties in descending order of the key.
        """
        frame = counts.ranked(min_count).head(max_size) if max_size is not None else counts.ranked(min_count)
        return cls(frame[_KEY], frame[_COUNT].to_numpy())

    @property
    def keys(self) -> pl.Series:
        """The keys in id order; the first has id 2."""
        return self._index.keys

    @property
    def num_ids(self) -> int:
        """The ids in use, padding and unknown included: the rows an embedding table needs."""
        return len(self) + NUM_SPECIAL_IDS

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        head = ", ".join(repr(key) for key in self.keys.head(3))
        return f"Vocabulary({len(self)} {self.key_type} keys: {head}{', ...' if len(self) > 3 else ''})"

    def ids(self, values: pl.Series) -> Tensor:
        """Turn keys into ids.

        Args:
            values: `(n,)` keys of the vocabulary's type; its name is used in messages.

        Returns:
            `(n,)` int64 ids; 1 for a key that is not in the vocabulary and for null.

        Raises:
            DataError: keys of another type.
        """
        places = self._index.find(as_keys(values, self.key_type, "unknown"))
        places += NUM_SPECIAL_IDS  # -1, found nowhere, becomes UNKNOWN_ID
        return torch.from_numpy(places)

    def keys_of(self, ids: Tensor) -> pl.Series:
        """Turn ids back into keys.

        Args:
            ids: `(n,)` int64.

        Returns:
            `(n,)` keys; null for padding and unknown.

        Raises:
            DataError: an id outside of `[0, num_ids)`.
        """
        places = pl.Series(ids.detach().cpu().numpy()) - NUM_SPECIAL_IDS
        outside = (places < -NUM_SPECIAL_IDS) | (places >= len(self))
        if outside.any():
            row = int(outside.arg_max() or 0)
            raise DataError(f"ids from 0 to {self.num_ids - 1}", str(int(ids[row])), f"ids, row {row}")
        return self.keys.gather(pl.select(pl.when(places >= 0).then(places)).to_series())

    def grow(self, values: pl.Series) -> Self:
        """Add the keys of more data; no key that is here changes its id.

        Args:
            values: `(n,)` keys that may repeat; nulls do not count.

        Returns:
            A vocabulary whose new keys come after the old ones, most frequent first, and whose counts are added up.

        Raises:
            DataError: keys of another type.
        """
        return self.grow_from(KeyCounts.of(as_keys(values, self.key_type, "unknown")))

    def grow_from(self, counts: KeyCounts, *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Add the keys of counts, as `grow` does.

        Args:
            counts: occurrences by key in the new data.
            min_count: new keys that occur less often there are left out.
            max_size: no key is added beyond this size.

        Returns:
            The grown vocabulary.

        Raises:
            DataError: keys of another type.
        """
        frame = counts.ranked(1)
        places = self._index.find(as_keys(frame[_KEY], self.key_type, "error"))
        old = self.counts.copy()
        old[places[places >= 0]] += frame[_COUNT].to_numpy()[places >= 0]
        new = frame.filter(pl.Series(places < 0) & (frame[_COUNT] >= min_count))
        if max_size is not None:
            new = new.head(max(max_size - len(self), 0))
        return type(self)(
            pl.concat([self.keys, new[_KEY].rename(self.keys.name)]), np.concatenate([old, new[_COUNT].to_numpy()])
        )

    def to_frame(self) -> pl.DataFrame:
        """Return the columns `key` and `count`, in id order."""
        return pl.DataFrame({_KEY: self.keys, _COUNT: self.counts})

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, where: str) -> Self:
        """Rebuild from what `to_frame` returned.

        Args:
            frame: the columns `key` and `count`.
            where: the file, for messages.

        Returns:
            An equal vocabulary.

        Raises:
            StorageError: other columns, or keys that are not distinct.
        """
        if frame.columns != [_KEY, _COUNT] or not frame[_COUNT].dtype.is_integer() or frame[_COUNT].null_count():
            got = f"columns of types {dict(frame.schema)}"
            raise StorageError("keys with integer counts", got, where, "restore the file")
        try:
            return cls(frame[_KEY], frame[_COUNT].to_numpy())
        except DataError as error:
            raise StorageError("distinct keys with counts", str(error), where, "restore the file") from error

    def save(self, path: str | Path) -> None:
        """Write a Parquet file, atomically.

        Args:
            path: the file.
        """
        write_parquet(path, self.to_frame())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            An equal vocabulary.

        Raises:
            StorageError: the file is missing or damaged.
        """
        return cls.from_frame(read_parquet(path), str(path))
