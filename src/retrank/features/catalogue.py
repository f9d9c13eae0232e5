"""`Catalogue`: the candidates, one row each."""

import copy
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import DataError
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType, as_key, as_keys, key_type

__all__ = ["Catalogue", "Keys"]

_FEW = 32  # keys that are looked up one by one sooner than as a column

Keys = pl.Series | npt.NDArray[Any] | list[Any]
"""Raw keys: strings, integers or booleans."""


@final
class Catalogue(Configurable):
    """All candidates: their raw keys and their transformed features.

    A candidate's row here is its id in every index that is built over the catalogue.

    Args:
        keys: `(n,)` raw keys, distinct and not null.
        batch: the transformed features, n rows.
        key: the name of the feature or column that the keys come from.

    Raises:
        DataError: not as many keys as rows, a null or repeated key, or keys of another type.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"film": ["Heat", "Big"], "year": [1995, 1988]})
        >>> space = rr.FeatureSpace({"film": rr.features.Categorical(), "year": rr.features.Passthrough()}).fit(films)
        >>> catalogue = space.catalogue(films, key="film")
        >>> len(catalogue), catalogue.keys.tolist(), catalogue.rows(["Big", "Jaws"])
        (2, ['Heat', 'Big'], tensor([ 1, -1]))
    """

    config_context: ClassVar[str] = "catalogue"

    def __init__(self, keys: Keys, batch: Batch, key: str) -> None:
        column = to_series(keys, key)
        self.key_type: KeyType = key_type(column)
        self._index = KeyIndex(as_keys(column, None, "error"))
        if len(self._index) != len(batch):
            raise DataError(f"{len(batch)} keys", str(len(self._index)), f"catalogue of '{key}'")
        self.key, self.batch = key, batch
        self.keys: npt.NDArray[Any] = to_array(self._index.keys)

    def with_batch(self, batch: Batch) -> Self:
        """Return the same candidates with other features; what finds their keys is shared.

        Args:
            batch: the transformed features, as many rows.

        Raises:
            DataError: another number of rows.
        """
        if len(batch) != len(self):
            raise DataError(f"features of {len(self)} candidates", str(len(batch)), f"catalogue of '{self.key}'")
        other = copy.copy(self)
        other.batch = batch
        return other

    def with_added(self, keys: Keys, batch: Batch) -> Self:
        """Return these candidates and others after the last; unless they are many, what finds the old keys is shared.

        Args:
            keys: `(n,)` raw keys, distinct, not null and new.
            batch: their transformed features, n rows.

        Raises:
            DataError: not as many keys as rows, a key that is here, or a null or repeated one, or one of another type.
        """
        added = as_keys(to_series(keys, self.key), self.key_type, "error")
        if len(added) != len(batch):
            raise DataError(f"{len(batch)} keys", str(len(added)), f"catalogue of '{self.key}'")
        other = self.with_batch(self.batch)
        other._index = self._index.with_added(added)
        other.batch, other.keys = Batch.concat([self.batch, batch]), np.concatenate([self.keys, to_array(added)])
        return other

    def has_rows_of(self, other: "Catalogue") -> bool:
        """Tell at no cost whether the keys of another catalogue have the same rows here; False if that is not clear.

        Args:
            other: from which this one was made, or any other.
        """
        return self._index is other._index

    def __len__(self) -> int:
        return len(self._index)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a value: copies of the models that hold it share it

    def __repr__(self) -> str:
        return f"Catalogue({len(self):,} candidates by '{self.key}', features {list(self.batch.names)})"

    def rows(self, keys: Keys) -> Tensor:
        """Look candidates up.

        Args:
            keys: `(n,)` raw keys of the catalogue's type.

        Returns:
            `(n,)` int64 row of each, -1 for a key that is not in the catalogue and for null.

        Raises:
            DataError: keys of another type.
        """
        if isinstance(keys, list) and len(keys) <= _FEW:
            where = f"keys of '{self.key}'"
            places = [-1 if key is None else self._index.place(as_key(key, self.key_type, where)) for key in keys]
            return torch.tensor(places, dtype=torch.int64)
        return torch.from_numpy(self._index.find(as_keys(to_series(keys, self.key), self.key_type, "unknown")))


def to_series(keys: Keys, name: str) -> pl.Series:
    """Take raw keys in any form.

    Args:
        keys: a polars Series (which keeps its name), a NumPy array or a list.
        name: for messages.

    Returns:
        The keys.

    Raises:
        DataError: the keys are not of one type.
    """
    if isinstance(keys, pl.Series):
        return keys
    try:
        return pl.Series(name, keys.tolist() if isinstance(keys, np.ndarray) and keys.dtype == object else keys)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError("keys of one type", str(error), f"keys of '{name}'") from error


def to_array(keys: pl.Series) -> npt.NDArray[Any]:
    """Give raw keys to users.

    Args:
        keys: strings, integers or booleans without nulls.

    Returns:
        An object array of str, an int64 array, or a boolean array.
    """
    return np.array(keys.to_list(), dtype=object) if keys.dtype == pl.String else keys.to_numpy(writable=True)
