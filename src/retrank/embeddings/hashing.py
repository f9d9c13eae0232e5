"""Hashes of id tensors, on any device, and equal on all.

Nothing here may change: saved models index their tables by these hashes, and tests pin the values.
"""

import torch
from torch import Tensor

from retrank.core.schema import NUM_SPECIAL_IDS

__all__ = ["bucket_ids"]


def bucket_ids(ids: Tensor, num_buckets: int, salt: tuple[int, int] = (0, 0)) -> Tensor:
    """Hash ids to the rows of a table that has fewer.

    Args:
        ids: int64, any shape.
        num_buckets: number of rows for hashed ids.
        salt: two integers >= 0; each salt gives an unrelated hash.

    Returns:
        Int64 in `[2, 2 + num_buckets)` of the same shape; padding and unknown stay what they are, and so do negative
        ids, which no table has.

    Example:
        >>> import torch
        >>> from retrank.embeddings.hashing import bucket_ids
        >>> bucket_ids(torch.tensor([0, 1, 2, 3]), num_buckets=100)
        tensor([ 0,  1, 93, 50])

    Source: SplitMix64 (Steele, Lea, Flood 2014), once for each part of the salt and once for the id.
    """
    hashes = ids.new_zeros(())
    for part in salt:
        hashes = _mix(hashes + part)
    hashes = _mix(hashes + ids) & 0x7FFFFFFFFFFFFFFF
    return torch.where(ids < NUM_SPECIAL_IDS, ids, hashes % num_buckets + NUM_SPECIAL_IDS)


def _mix(values: Tensor) -> Tensor:
    """SplitMix64 in two's complement: int64 wraps around, and shifts are made unsigned by a mask."""
    mixed = values + _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ ((mixed >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ ((mixed >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB)
    return mixed ^ ((mixed >> 31) & (2**33 - 1))


def _signed(word: int) -> int:
    return word - 2**64
