"""Random numbers that depend on a seed and a place in the program, and on nothing else."""

import hashlib
import random

import numpy as np
import torch

__all__ = ["derive_seed", "generator", "seed_everything"]


def derive_seed(seed: int, *path: int | str) -> int:
    """Mix a seed with a path of names and numbers into a new 63-bit seed.

    Args:
        seed: the seed of the whole run.
        path: what the numbers are for, e.g. `("shuffle", epoch)`.

    Returns:
        A seed in `[0, 2**63)`; different paths give unrelated seeds, on every platform the same.

    Example:
        >>> import retrank as rr
        >>> rr.core.derive_seed(1, "shuffle", 0) == rr.core.derive_seed(1, "shuffle", 1)
        False
    """
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *path: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a torch generator for one place in the program.

    Args:
        seed: the seed of the whole run.
        path: what the numbers are for, e.g. `("shuffle", epoch)`.
        device: where the numbers are drawn.

    Returns:
        A generator of its own: drawing from it moves no other.

    Example:
        >>> import torch, retrank as rr
        >>> draw = lambda: torch.rand(2, generator=rr.core.generator(7, "noise"))
        >>> bool((draw() == draw()).all())
        True
    """
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *path))


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (weights, dropout).

    Args:
        seed: any integer in `[0, 2**32)`.

    Example:
        >>> import torch, retrank as rr
        >>> rr.core.seed_everything(3); a = torch.rand(1)
        >>> rr.core.seed_everything(3); bool(a == torch.rand(1))
        True
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
