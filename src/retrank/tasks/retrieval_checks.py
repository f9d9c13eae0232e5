"""What `Retrieval` asks of the tensors of a batch."""

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError

__all__ = ["check_pairing", "check_shapes"]


def check_pairing(positives: Tensor | None, *, symmetric: bool, in_batch_negatives: bool) -> None:
    """Require that query i belongs to column i where the loss needs it.

    Args:
        positives: the column of each query's positive, or None for query i and column i.
        symmetric: whether candidates look for their query, too.
        in_batch_negatives: whether the positives of other queries are negatives.

    Raises:
        ConfigError: `positives` where there must be none, or a symmetric loss without in-batch negatives.
    """
    if positives is not None and (symmetric or not in_batch_negatives):
        raise ConfigError(
            f"query i to belong to column i, for {'a symmetric loss' if symmetric else 'in_batch_negatives=False'}",
            "positives",
            "Retrieval",
            "order the candidates by query, or "
            + ("build the task with symmetric=False" if symmetric else "let all columns be negatives"),
        )
    if symmetric and not in_batch_negatives:
        raise ConfigError(
            "in-batch negatives, for a symmetric loss",
            "in_batch_negatives=False",
            "Retrieval",
            "build the task with symmetric=False: what is drawn has no query to look for",
        )


def check_shapes(
    queries: Tensor, candidates: Tensor, positives: Tensor | None, weight: Tensor | None, mask: Tensor | None
) -> None:
    """Require tensors that fit each other.

    Args:
        queries: `(batch, dim)` or `(batch, heads, dim)`.
        candidates: `(columns, dim)`.
        positives: `(batch,)` int64 or None.
        weight: `(batch,)` or None.
        mask: `(batch, columns)` or `(columns,)` bool, or None.

    Raises:
        ShapeError: they do not.
    """
    if positives is None and len(candidates) < len(queries):
        raise ShapeError(
            f"at least one candidate per query, {len(queries)}",
            str(len(candidates)),
            "Retrieval",
            "pass `positives` if queries share candidates",
        )
    if positives is not None and (positives.shape != queries.shape[:1] or positives.dtype != torch.int64):
        raise ShapeError(
            f"int64 positives of shape ({len(queries)},)",
            f"{positives.dtype} of shape {tuple(positives.shape)}",
            "Retrieval",
        )
    if weight is not None and weight.shape != queries.shape[:1]:
        raise ShapeError(f"weight of shape ({len(queries)},)", str(tuple(weight.shape)), "Retrieval")
    shapes = ((len(queries), len(candidates)), (len(candidates),))
    if mask is not None and (mask.shape not in shapes or mask.dtype != torch.bool):
        raise ShapeError(
            f"bool score_mask of shape {shapes[0]} or {shapes[1]}",
            f"{mask.dtype} of shape {tuple(mask.shape)}",
            "Retrieval",
        )
