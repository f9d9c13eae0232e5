"""Who competes with whom: the rows and columns of a softmax, in one process or across all that train together."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.collectives import gather_rows, gather_sizes, process_rank
from retrank.core.errors import ShapeError

__all__ = ["Contest", "across_processes", "match", "reverse_across_processes"]


@final
@dataclass(frozen=True)
class Contest:
    """Rows that each look for their positive among columns.

    Args:
        scores: `(rows, columns)`.
        positives: `(rows,)` int64 column of each row's positive.
        ids: `(columns,)` or `(rows, columns)` integers, what each column is; None if unknown.
        log_q: `(columns,)` or `(rows, columns)` logarithms of sampling probabilities, or None.
        mask: `(rows, columns)` bool, False for pairs that must not be compared; None for none.
    """

    scores: Tensor
    positives: Tensor
    ids: Tensor | None = None
    log_q: Tensor | None = None
    mask: Tensor | None = None

    def reversed(self) -> "Contest":
        """Let the positives' columns look for their rows, where row i belongs to column i.

        Returns:
            `(rows, rows)` scores. Sampling is not corrected: log_q is constant in each of the new rows.
        """
        num_rows, ids = len(self.scores), self.ids
        return Contest(
            self.scores[:, :num_rows].T,
            self.positives,
            ids=None if ids is None else ids[:num_rows] if ids.dim() == 1 else ids.diagonal(),
            mask=None if self.mask is None else self.mask[:, :num_rows].T,
        )


def match(queries: Tensor, candidates: Tensor) -> Tensor:
    """Score all pairs by dot product.

    Args:
        queries: `(batch, dim)`, or `(batch, heads, dim)`: the best head counts.
        candidates: `(columns, dim)`.

    Returns:
        `(batch, columns)` in at least float32.

    Raises:
        ShapeError: another shape.
    """
    if queries.dim() not in (2, 3) or candidates.dim() != 2 or queries.shape[-1] != candidates.shape[1]:
        raise ShapeError(
            "queries (batch, dim) or (batch, heads, dim) and candidates (columns, dim)",
            f"{tuple(queries.shape)} and {tuple(candidates.shape)}",
            "Retrieval",
            "embed both with the same dim",
        )
    scores = queries @ candidates.T
    scores = scores if queries.dim() == 2 else scores.amax(dim=1)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def across_processes(
    queries: Tensor, candidates: Tensor, *, ids: Tensor | None, log_q: Tensor | None, mask: Tensor | None
) -> tuple[Contest, list[int]]:
    """Let own queries look for their positive among the candidates of all processes.

    Args:
        queries: `(batch, dim)` or `(batch, heads, dim)`, own; query i belongs to own candidate i.
        candidates: `(columns, dim)`, own.
        ids: `(columns,)`, own.
        log_q: `(columns,)`, own.
        mask: `(batch, columns)` of own pairs; pairs with others' candidates are always compared.

    Returns:
        The contest, and the number of queries in every process, by rank.

    Raises:
        ShapeError: ids or log_q with a row a query, which others cannot share.
    """
    for name, tensor in (("candidate_ids", ids), ("log_q", log_q)):
        if tensor is not None and tensor.shape != candidates.shape[:1]:
            raise ShapeError(
                f"{name} of shape ({len(candidates)},)",
                str(tuple(tensor.shape)),
                "Retrieval in several processes",
                "give one a candidate, or build the task with cross_device_negatives=False",
            )
    sizes = gather_sizes(len(queries), len(candidates), device=candidates.device)
    columns = [size[1] for size in sizes]
    start = sum(columns[: process_rank()])
    scores = match(queries, gather_rows(candidates, columns))
    return Contest(
        scores,
        start + torch.arange(len(queries), device=queries.device),
        ids=None if ids is None else gather_rows(ids, columns),
        log_q=None if log_q is None else gather_rows(log_q, columns),
        mask=_widened(mask, scores, start),
    ), [size[0] for size in sizes]


def reverse_across_processes(
    queries: Tensor, candidates: Tensor, num_rows: list[int], *, ids: Tensor | None, mask: Tensor | None
) -> Contest:
    """Let own positive candidates look for their query among the queries of all processes.

    Args:
        queries: `(batch, dim)` or `(batch, heads, dim)`, own; query i belongs to own candidate i.
        candidates: `(columns, dim)`, own.
        num_rows: queries in every process, by rank.
        ids: `(columns,)`, own.
        mask: `(batch, columns)` of own pairs.

    Returns:
        The contest, of the scores `(batch, queries of all processes)`.
    """
    own = len(queries)
    start = sum(num_rows[: process_rank()])
    scores = match(gather_rows(queries, num_rows), candidates[:own]).T
    return Contest(
        scores,
        start + torch.arange(own, device=queries.device),
        ids=None if ids is None else gather_rows(ids[:own], num_rows),
        mask=_widened(None if mask is None else mask[:, :own].T, scores, start),
    )


def _widened(mask: Tensor | None, scores: Tensor, start: int) -> Tensor | None:
    if mask is None:
        return None
    widened = torch.ones_like(scores, dtype=torch.bool)
    widened[:, start : start + mask.shape[1]] = mask
    return widened
