"""Who competes with whom: the rows and columns of a softmax, in one process or across all that train together."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.collectives import gather_rows, gather_sizes, process_rank
from retrank.core.errors import ShapeError

__all__ = ["Contest", "across_processes", "reverse_across_processes"]


@final
@dataclass(frozen=True)
class Contest:
    """Rows that each look for their positive among columns; nobody has scored them yet.

    Args:
        rows: `(rows, dim)` embeddings, or `(rows, heads, dim)`: the best head counts.
        columns: `(columns, dim)` or `(columns, heads, dim)`; one side at most has heads.
        positives: `(rows,)` int64 column of each row's positive.
        ids: `(columns,)` or `(rows, columns)` integers, what each column is; None if unknown.
        log_q: `(columns,)` or `(rows, columns)` logarithms of sampling probabilities, or None.
        mask: `(rows, columns)` bool, False for pairs that must not be compared; None for none.

    Raises:
        ShapeError: embeddings that do not fit.
    """

    rows: Tensor
    columns: Tensor
    positives: Tensor
    ids: Tensor | None = None
    log_q: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        dims = sorted([self.rows.dim(), self.columns.dim()])
        if dims not in ([2, 2], [2, 3]) or self.rows.shape[-1] != self.columns.shape[-1]:
            raise ShapeError(
                "queries (batch, dim) or (batch, heads, dim) and candidates (columns, dim)",
                f"{tuple(self.rows.shape)} and {tuple(self.columns.shape)}",
                "Retrieval",
                "embed both with the same dim",
            )

    @property
    def scores(self) -> Tensor:
        """`(rows, columns)` dot products in at least float32, of the best head."""
        if self.columns.dim() == 3:
            return _scores(self.columns, self.rows).T
        return _scores(self.rows, self.columns)

    def cut(self, size: int) -> "list[Contest]":
        """Cut the contest into ones of some rows each, among all columns.

        Args:
            size: the most rows of each.

        Returns:
            Contests in the order of the rows; at least one.
        """
        num_rows = len(self.rows)
        return [self._some(slice(start, start + size)) for start in range(0, max(num_rows, 1), size)]

    def reversed(self) -> "Contest":
        """Let the positives' columns look for their rows, where row i belongs to column i.

        Returns:
            `(rows, rows)` scores. Sampling is not corrected: log_q is constant in each of the new rows.
        """
        num_rows, ids = len(self.rows), self.ids
        return Contest(
            self.columns[:num_rows],
            self.rows,
            self.positives,
            ids=None if ids is None else ids[:num_rows] if ids.dim() == 1 else ids.diagonal(),
            mask=None if self.mask is None else self.mask[:, :num_rows].T,
        )

    def _some(self, part: slice) -> "Contest":
        ids, log_q = (
            tensor[part] if tensor is not None and tensor.dim() == 2 else tensor for tensor in (self.ids, self.log_q)
        )
        mask = None if self.mask is None else self.mask[part]
        return Contest(self.rows[part], self.columns, self.positives[part], ids=ids, log_q=log_q, mask=mask)


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
        ShapeError: embeddings that do not fit, or ids or log_q with a row a query, which others cannot share.
    """
    for name, tensor in (("candidate_ids", ids), ("log_q", log_q)):
        if tensor is not None and tensor.shape != candidates.shape[:1]:
            raise ShapeError(
                f"{name} of shape ({len(candidates)},)",
                str(tuple(tensor.shape)),
                "Retrieval in several processes",
                "give one per candidate, or build the task with cross_device_negatives=False",
            )
    sizes = gather_sizes(len(queries), len(candidates), device=candidates.device)
    columns = [size[1] for size in sizes]
    start = sum(columns[: process_rank()])
    everyone = gather_rows(candidates, columns)
    return Contest(
        queries,
        everyone,
        start + torch.arange(len(queries), device=queries.device),
        ids=None if ids is None else gather_rows(ids, columns),
        log_q=None if log_q is None else gather_rows(log_q, columns),
        mask=_widened(mask, len(everyone), start),
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
        The contest, `(batch, queries of all processes)`.
    """
    own = len(queries)
    start = sum(num_rows[: process_rank()])
    everyone = gather_rows(queries, num_rows)
    return Contest(
        candidates[:own],
        everyone,
        start + torch.arange(own, device=queries.device),
        ids=None if ids is None else gather_rows(ids[:own], num_rows),
        mask=_widened(None if mask is None else mask[:, :own].T, len(everyone), start),
    )


def _scores(queries: Tensor, candidates: Tensor) -> Tensor:
    scores = queries @ candidates.T
    scores = scores if queries.dim() == 2 else scores.amax(dim=1)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _widened(mask: Tensor | None, num_columns: int, start: int) -> Tensor | None:
    if mask is None:
        return None
    widened = mask.new_ones(len(mask), num_columns)
    widened[:, start : start + mask.shape[1]] = mask
    return widened
