"""Rounding to half precision that is right on average, so that many small steps are not lost."""

from typing import Final

import torch
from torch import Tensor

__all__ = ["HALF_PRECISION", "draw_seed", "round_randomly"]

HALF_PRECISION: Final = (torch.bfloat16, torch.float16)
_DROPPED_BITS: Final = {torch.bfloat16: 16, torch.float16: 13}
_SMALLEST_NORMAL: Final = 2.0**-14  # of float16


def draw_seed() -> int:
    """Draw from torch's generator of the CPU, which the training loop seeds and keeps in its checkpoints.

    Returns:
        An int64, for `round_randomly` on any device.
    """
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_(-(2**63), None))


def round_randomly(numbers: Tensor, rows: Tensor, dtype: torch.dtype, *, seed: int) -> Tensor:
    """Round each number to one of its two neighbours, the nearer the likelier, so that the mean error is 0.

    What has no fraction to round stays as it is. The random bits are a hash of the seed, the row and the column, the
    same on all devices.

    Args:
        numbers: `(n, dim)` float32.
        rows: `(n,)` int64, the row of the table that each of them is.
        dtype: bfloat16 or float16.
        seed: another one for every step, see `draw_seed`.

    Returns:
        `(n, dim)` in that dtype; NaN stays NaN, and what is too large becomes infinite.

    Example:
        >>> import torch
        >>> from retrank.ops.rounding import round_randomly
        >>> numbers, rows = torch.full((10_000, 10), 1 + 2**-10), torch.arange(10_000)
        >>> rounded = round_randomly(numbers, rows, torch.bfloat16, seed=0)
        >>> rounded.unique().tolist(), round((rounded.double().mean().item() - 1) * 2**10, 1)
        ([1.0, 1.0078125], 1.0)

    Source: Gupta et al., Deep Learning with Limited Numerical Precision, ICML 2015; the weights of half precision of
    FBGEMM.
    """
    dropped = _DROPPED_BITS[dtype]
    values, base = numbers.clone(memory_format=torch.contiguous_format), None
    if dtype == torch.float16:  # below its smallest normal number the neighbours stop coming closer together
        base = torch.where(values.abs() < _SMALLEST_NORMAL, _SMALLEST_NORMAL, 0.0).copysign_(values)
        values += base
    # Sign and magnitude: adding below the last bit that is kept, then cutting off, moves away from 0 or towards it.
    noise = _random_bits(rows, numbers.shape[1], seed).bitwise_and_((1 << dropped) - 1)
    values.view(torch.int32).add_(noise).bitwise_and_(-1 << dropped)
    if base is not None:
        values -= base
    return torch.where(numbers.isfinite(), values, numbers).to(dtype)


def _random_bits(rows: Tensor, dim: int, seed: int) -> Tensor:
    """Return `(n, dim)` int32: SplitMix64 of the row, then lowbias32 of the column, as the kernel does it.

    Integers wrap around, and shifts are made unsigned by a mask.
    """
    keys = rows * _signed(0x9E3779B97F4A7C15, 64) + seed
    keys = (keys ^ ((keys >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9, 64)
    keys = (keys ^ ((keys >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB, 64)
    keys = keys ^ ((keys >> 31) & (2**33 - 1))
    columns = torch.arange(dim, dtype=torch.int32, device=rows.device) * _signed(0x9E3779B9, 32)
    bits = keys.to(torch.int32).unsqueeze(1) + columns
    bits ^= (bits >> 16) & 0xFFFF
    bits *= 0x7FEB352D
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= _signed(0x846CA68B, 32)
    return bits.bitwise_xor_((bits >> 16) & 0xFFFF)


def _signed(word: int, width: int) -> int:
    return word - (1 << width)
