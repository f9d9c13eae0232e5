"""Pooling: how lists of vectors become one vector each."""

from typing import Literal, get_args

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.schema import PADDING_ID
from retrank.ops.lookup import coefficients

__all__ = ["Combiner", "pool_vectors", "require_combiner"]

Combiner = Literal["mean", "sum", "sqrtn", "max"]
"""With weights w and vectors e: Σwe / Σw, Σwe, Σwe / √Σw², or the largest e in each dimension, without weights."""


def require_combiner(combiner: str, where: str) -> None:
    """Check the name of a combiner.

    Args:
        combiner: the name.
        where: for the message.

    Raises:
        ConfigError: unknown combiner.
    """
    if combiner not in get_args(Combiner):
        raise ConfigError(
            f"combiner in {list(get_args(Combiner))}", repr(combiner), where, "choose one, 'mean' is the default"
        )


def pool_vectors(vectors: Tensor, ids: Jagged, combiner: Combiner) -> Tensor:
    """Pool vectors that are already looked up.

    Args:
        vectors: `(total, dim)`, one for each id.
        ids: lists of ids; padding takes no part.
        combiner: how they are pooled.

    Returns:
        `(lists, dim)`; zeros for a list without ids, or whose denominator is 0.

    Raises:
        ConfigError: the combiner is `"max"` and the lists have weights.
    """
    if combiner != "max":
        vectors = vectors * coefficients(ids, combiner, vectors.dtype).unsqueeze(1)
        return torch.segment_reduce(vectors, "sum", offsets=ids.offsets, axis=0, initial=0)
    if ids.weights is not None:
        raise ConfigError("lists without weights", "weights", "combiner 'max'", "pool by 'mean', 'sum' or 'sqrtn'")
    vectors = vectors.masked_fill((ids.values == PADDING_ID).unsqueeze(1), -torch.inf)
    largest = torch.segment_reduce(vectors, "max", offsets=ids.offsets, axis=0, initial=-torch.inf)
    return largest.masked_fill(largest == -torch.inf, 0.0)
