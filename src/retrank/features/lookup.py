"""Finding the place of a key among distinct keys: the one lookup behind vocabularies, catalogues and histories."""

from functools import cached_property
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError

__all__ = ["KeyIndex"]

_ALWAYS_FEW: Final = 256
_FEW: Final = 32


@final
class KeyIndex:
    """Distinct keys and the place of each.

    Many keys are looked up by one hash join. That builds a table of all keys at every call, so a few keys
    (a request) are looked up by binary search in the sorted keys instead; both give the same places.

    Args:
        keys: distinct strings, integers or booleans, without nulls.

    Raises:
        DataError: a key is null or occurs twice.

    Example:
        >>> import polars as pl, retrank as rr
        >>> rr.features.KeyIndex(pl.Series("movie", ["Heat", "Big"])).find(pl.Series(["Big", "Alien"])).tolist()
        [1, -1]
    """

    def __init__(self, keys: pl.Series) -> None:
        self.keys = keys
        if keys.null_count():
            raise DataError(
                "keys without nulls",
                "null",
                f"column '{keys.name}', row {int(keys.is_null().arg_max() or 0)}",
                "drop it",
            )
        if keys.n_unique() != len(keys):
            row = int(keys.is_first_distinct().not_().arg_max() or 0)
            raise DataError(
                "distinct keys", f"{keys[row]!r} again", f"column '{keys.name}', row {row}", "keep one row a key"
            )

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """Look keys up.

        Args:
            values: `(n,)` keys of the same dtype; null is found nowhere.

        Returns:
            `(n,)` int64, the place of each key, -1 where there is none.
        """
        if values.dtype != self.keys.dtype:
            raise DataError(
                f"keys of type {self.keys.dtype}", str(values.dtype), f"column '{values.name}'", "cast the column"
            )
        if not len(self.keys):
            return np.full(len(values), -1)
        few = len(values) <= max(_ALWAYS_FEW, len(self.keys) // _FEW)
        return self._search(values) if few else self._join(values)

    def _search(self, values: pl.Series) -> npt.NDArray[np.int64]:
        ascending, places = self._sorted
        nearest = np.minimum(ascending.search_sorted(values).to_numpy(), len(ascending) - 1)
        found = ascending.gather(nearest).eq_missing(values).to_numpy()  # no key is null, so a null is not found
        return np.where(found, places[nearest], -1)

    def _join(self, values: pl.Series) -> npt.NDArray[np.int64]:
        table = pl.DataFrame({"key": self.keys, "place": pl.int_range(len(self.keys), eager=True)})
        left = values.alias("key").to_frame()
        joined = left.join(table, on="key", how="left", maintain_order="left")
        return joined.get_column("place").fill_null(-1).to_numpy(writable=True)

    @cached_property
    def _sorted(self) -> tuple[pl.Series, npt.NDArray[np.int64]]:
        order = self.keys.arg_sort()
        return self.keys.gather(order).set_sorted(), order.cast(pl.Int64).to_numpy()
