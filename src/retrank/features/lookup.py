"""Finding the place of a key among distinct keys: the one lookup behind vocabularies, catalogues and histories."""

from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.errors import DataError
from retrank.features.blocks import in_blocks
from retrank.features.key_tables import KeyTable, key_table

__all__ = ["KeyIndex"]


@final
class KeyIndex:
    """Distinct keys and the place of each.

    A table of the keys is built at the first lookup; see `key_table`.

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
        return in_blocks(values, np.int64, lambda block, _: self._table.find(block))

    @cached_property
    def _table(self) -> KeyTable:
        return key_table(self.keys)
