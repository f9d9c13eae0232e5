"""The raw keys of an index's candidates: integers or strings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError

__all__ = ["KeysLike", "RawKeys", "keys_of", "raw_keys"]

RawKeys = Tensor | npt.NDArray[np.object_]
"""`(num_candidates,)` int64 tensor, or NumPy array of `str` objects."""
KeysLike = Tensor | npt.NDArray[Any] | pl.Series | Sequence[int] | Sequence[str]
"""What is accepted as keys."""


def raw_keys(keys: KeysLike | None, num_candidates: int) -> RawKeys:
    """Bring keys into the one form of their kind.

    Args:
        keys: one a candidate, all integers or all strings; row numbers by default.
        num_candidates: candidates that they name.

    Returns:
        The keys in row order.

    Raises:
        DataError: not one a candidate, null, of another kind, or a key that occurs twice.
    """
    if keys is None:
        return torch.arange(num_candidates)
    series = pl.Series("keys", keys.cpu().numpy() if isinstance(keys, Tensor) else keys)
    if len(series) != num_candidates:
        raise DataError(
            f"{num_candidates} keys", f"{len(series)}", "keys", "give one key a candidate, in the order of the rows"
        )
    if series.null_count():
        raise DataError("no nulls", "null", f"keys, row {series.is_null().arg_max()}", "name every candidate")
    if not (series.dtype.is_integer() or series.dtype == pl.String):
        raise DataError("all integers or all strings", str(series.dtype), "keys", "convert them before indexing")
    again = ~series.is_first_distinct()
    if again.any():
        row = int(again.to_numpy().argmax())
        raise DataError("distinct keys", f"{series[row]!r} again", f"keys, row {row}", "keep one row a candidate")
    if series.dtype == pl.String:
        return np.array(series.to_list(), dtype=object)
    return torch.from_numpy(series.cast(pl.Int64).to_numpy().copy())


def keys_of(keys: RawKeys, ids: Tensor) -> RawKeys:
    """Look up the keys of rows.

    Args:
        keys: of all candidates.
        ids: any shape, int64 rows, -1 for a missing place.

    Returns:
        The same shape: int64 tensor on the device of `ids` with -1 at missing places, or array of `str` with None.
    """
    if isinstance(keys, Tensor):
        return torch.where(ids >= 0, keys.to(ids.device)[ids.clamp(min=0)], -1)
    rows = ids.cpu().numpy()
    found: npt.NDArray[np.object_] = keys[rows.clip(min=0)]
    found[rows < 0] = None
    return found
