"""Stable 64-bit hashes of whole columns: the same on every platform, in every version, for any split into batches.

Nothing here may change: saved models index their tables by these hashes, and tests pin the values.
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from retrank.core.schema import NUM_SPECIAL_IDS

__all__ = ["bucket_ids", "combine", "hash_integers", "hash_strings", "salt_of"]

Hashes = npt.NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_WORD: Final = 8
_PADDING: Final = pl.Series(["\0" * length for length in range(_WORD)])


def hash_integers(values: npt.NDArray[np.int64], salt: int = 0) -> Hashes:
    """Hash integers.

    Args:
        values: `(n,)` int64.
        salt: an integer in `[0, 2**64)`; each salt gives an unrelated hash.

    Returns:
        `(n,)` uint64.

    Example:
        >>> import numpy as np, retrank as rr
        >>> rr.features.hashing.hash_integers(np.array([0, 1])).tolist()
        [16294208416658607535, 10451216379200822465]

    Source: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    """
    return _mix(values.astype(np.int64).view(np.uint64) + np.uint64(salt))


def hash_strings(texts: pl.Series, salt: int = 0) -> Hashes:
    """Hash strings by their UTF-8 bytes.

    Args:
        texts: `(n,)` strings without nulls.
        salt: an integer in `[0, 2**64)`; each salt gives an unrelated hash.

    Returns:
        `(n,)` uint64: the sum of mixed 8-byte words (little endian, the last one filled with zeros), each mixed with
        its place; then mixed with the length in bytes and the salt.

    Example:
        >>> import polars as pl, retrank as rr
        >>> first, second = rr.features.hashing.hash_strings(pl.Series(["Heat", "Big"]))
        >>> bool(first == rr.features.hashing.hash_strings(pl.Series(["Alien", "Heat"]))[1])
        True
    """
    lengths = texts.str.len_bytes().cast(pl.Int64).to_numpy()
    aligned = (texts + _PADDING.gather(-lengths % _WORD)).str.join("")
    words = np.frombuffer(aligned[0].encode() if len(texts) else b"", dtype="<u8").astype(np.uint64)
    num_words = -(-lengths // _WORD)
    starts = np.cumsum(num_words) - num_words
    places = np.arange(len(words)) - np.repeat(starts, num_words)
    mixed_places = _mix(np.arange(num_words.max(initial=0), dtype=np.uint64))
    mixed = _mix(words ^ mixed_places.take(places))
    sums = np.zeros(len(texts), dtype=np.uint64)
    filled = num_words > 0  # reduceat gives an empty string the first word of its neighbour
    if filled.any():
        sums[filled] = np.add.reduceat(mixed, starts[filled])
    return _mix(_mix(sums + lengths.view(np.uint64)) + np.uint64(salt))


@cache
def salt_of(name: str) -> int:
    """Turn a name into a salt.

    Args:
        name: e.g. a feature's name.

    Returns:
        An integer in `[0, 2**64)`.
    """
    return int(hash_strings(pl.Series([name]))[0])


def combine(columns: list[npt.NDArray[np.int64]], salt: int = 0) -> Hashes:
    """Hash rows of several integers; their order counts.

    Args:
        columns: each `(n,)` int64.
        salt: an integer in `[0, 2**64)`; each salt gives an unrelated hash.

    Returns:
        `(n,)` uint64.
    """
    hashes = np.full(len(columns[0]), salt, dtype=np.uint64)
    for column in columns:
        hashes = _mix(_mix(hashes) + column.astype(np.int64).view(np.uint64))
    return hashes


def bucket_ids(hashes: Hashes, bins: int) -> npt.NDArray[np.int64]:
    """Turn hashes into ids.

    Args:
        hashes: `(n,)` uint64.
        bins: number of buckets.

    Returns:
        `(n,)` int64 in `[2, 2 + bins)`: 0 and 1 stay padding and unknown.
    """
    return (hashes % np.uint64(bins)).astype(np.int64) + NUM_SPECIAL_IDS


def _mix(values: Hashes) -> Hashes:
    """SplitMix64: one step of the generator from each value as its state."""
    mixed = values + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
