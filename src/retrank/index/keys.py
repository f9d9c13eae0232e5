"""The raw keys of an index's candidates: integers or strings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError

__all__ = [
    "KeysLike",
    "RawKeys",
    "appended",
    "find_rows",
    "joined",
    "keys_of",
    "raw_keys",
    "rows_left",
    "rows_to_change",
    "same_keys",
]

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
    series = _series(keys)
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


def find_rows(keys: RawKeys, asked: KeysLike) -> Tensor:
    """Look up the rows of keys.

    Args:
        keys: of all candidates.
        asked: any keys, repeats are allowed.

    Returns:
        `(len(asked),)` int64 rows, -1 where a key is no candidate's.

    Raises:
        DataError: keys of another kind than the index's.
    """
    series = _series(asked)
    if len(series) == 0:
        return torch.empty(0, dtype=torch.int64)
    is_integer = isinstance(keys, Tensor)
    if not (series.dtype.is_integer() if is_integer else series.dtype == pl.String):
        raise DataError(
            f"{'integer' if is_integer else 'string'} keys", str(series.dtype), "keys", "ask for keys of the index"
        )
    known = pl.DataFrame({"key": _series(keys), "row": np.arange(len(keys))})
    wanted = pl.DataFrame({"key": series.cast(pl.Int64) if is_integer else series})
    rows = wanted.join(known, on="key", how="left", maintain_order="left")["row"].fill_null(-1)
    return torch.from_numpy(rows.cast(pl.Int64).to_numpy(writable=True))


def appended(keys: RawKeys, new: KeysLike, num_new: int) -> RawKeys:
    """Put the keys of new candidates behind those of an index.

    Args:
        keys: of the index.
        new: one a new candidate.
        num_new: new candidates.

    Returns:
        All keys.

    Raises:
        DataError: not one a candidate, of another kind, or a key that is there already.
    """
    rows = find_rows(keys, new)
    if bool((rows >= 0).any()):
        row = int((rows >= 0).nonzero()[0])
        raise DataError(
            "keys that are not in the index yet", repr(_series(new)[row]), f"keys, row {row}", "use update() for those"
        )
    if num_new == len(rows) == 0:
        return keys
    added = raw_keys(new, num_new)
    if isinstance(keys, Tensor) and isinstance(added, Tensor):
        return torch.cat([keys, added])
    return np.concatenate([keys, added])


def joined(parts: Sequence[KeysLike | None], num_candidates: int) -> RawKeys:
    """Put the keys of successive pieces one after another.

    Args:
        parts: the keys of each piece; None in all of them stands for row numbers.
        num_candidates: in all pieces.

    Returns:
        All keys.

    Raises:
        DataError: some pieces have keys and others have none, kinds are mixed, or a key occurs twice.
    """
    named = [_series(part) for part in parts if part is not None]
    kinds = {str(series.dtype) for series in named if len(series)} | ({"no keys"} if len(named) < len(parts) else set())
    if len(kinds) > 1:
        raise DataError("keys of one kind", " and ".join(sorted(kinds)), "keys", "give every piece keys, or none")
    full = [series for series in named if len(series)]
    return raw_keys(pl.concat(full) if full else None, num_candidates)


def rows_to_change(keys: RawKeys, asked: KeysLike, num_asked: int | None = None) -> Tensor:
    """Look up the rows of keys that must all be there, once each.

    Args:
        keys: of the index.
        asked: distinct keys of the index.
        num_asked: how many there must be; any number by default.

    Returns:
        `(len(asked),)` int64 rows.

    Raises:
        DataError: a key that is no candidate's or occurs twice, or another number of keys.
    """
    rows = find_rows(keys, asked)
    if num_asked not in (None, len(rows)):
        raise DataError(f"{num_asked} keys", f"{len(rows)}", "keys", "give one key a candidate")
    if len(rows):
        raw_keys(asked, len(rows))
    if bool((rows < 0).any()):
        row = int((rows < 0).nonzero()[0])
        raise DataError("keys of the index", repr(_series(asked)[row]), f"keys, row {row}", "leave unknown keys out")
    return rows


def rows_left(keys: RawKeys, removed: KeysLike) -> Tensor:
    """Find the candidates that stay when others are removed.

    Args:
        keys: of the index.
        removed: distinct keys of the index.

    Returns:
        Ascending int64 rows, at least one.

    Raises:
        DataError: a key that is no candidate's or occurs twice, or none would be left.
    """
    stays = torch.ones(len(keys), dtype=torch.bool)
    stays[rows_to_change(keys, removed)] = False
    if not bool(stays.any()):
        raise DataError("at least one candidate left", "none", "remove", "an index cannot be empty: drop it instead")
    return stays.nonzero()[:, 0]


def same_keys(keys: RawKeys, others: RawKeys) -> bool:
    """Say whether two indexes name the same candidates in the same order.

    Args:
        keys: of one.
        others: of the other.

    Returns:
        Whether all keys are equal.
    """
    if isinstance(keys, Tensor) and isinstance(others, Tensor):
        return torch.equal(keys, others)
    return not isinstance(keys, Tensor) and not isinstance(others, Tensor) and np.array_equal(keys, others)


def _series(keys: KeysLike | RawKeys) -> pl.Series:
    if isinstance(keys, Tensor):
        return pl.Series("keys", keys.cpu().numpy())
    return pl.Series("keys", keys.tolist() if isinstance(keys, np.ndarray) and keys.dtype == object else keys)
