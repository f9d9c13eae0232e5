"""`RetrievalBatch`: the rows and columns of a softmax, in one process or across all that train together."""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from retrank.core.collectives import gather_rows, gather_sizes, process_rank
from retrank.core.errors import ShapeError

__all__ = ["RetrievalBatch", "gather_candidates", "gather_queries"]


@final
@dataclass(frozen=True)
class RetrievalBatch:
    """Queries whose positives are to be found among candidates; nothing is scored yet.

    Args:
        queries: `(batch, dim)` embeddings, or `(batch, heads, dim)`: the best head counts.
        candidates: `(columns, dim)` or `(columns, heads, dim)`; one side at most has heads.
        positives: `(batch,)` int64 column of each query's positive.
        ids: `(columns,)` or `(batch, columns)` integers, the candidate of each column; None if unknown.
        log_q: `(columns,)` or `(batch, columns)` logarithms of sampling probabilities, or None.
        mask: `(batch, columns)` bool, False for pairs that must not be compared, or `(columns,)`, the same for all
            queries; None for none.
        first_shared: columns from this one on are compared with all queries, those before it with the query whose
            positive they are. Above 0 all positives lie before it.

    Raises:
        ShapeError: embeddings that do not fit.
    """

    queries: Tensor
    candidates: Tensor
    positives: Tensor
    ids: Tensor | None = None
    log_q: Tensor | None = None
    mask: Tensor | None = None
    first_shared: int = 0

    def __post_init__(self) -> None:
        dims = sorted([self.queries.dim(), self.candidates.dim()])
        if dims not in ([2, 2], [2, 3]) or self.queries.shape[-1] != self.candidates.shape[-1]:
            raise ShapeError(
                "queries (batch, dim) or (batch, heads, dim) and candidates (columns, dim)",
                f"{tuple(self.queries.shape)} and {tuple(self.candidates.shape)}",
                "Retrieval",
                "embed both with the same dim",
            )

    @property
    def scores(self) -> Tensor:
        """`(batch, columns)` dot products in at least float32, of the best head; see `positives_first`."""
        shared = self.candidates[self.first_shared :]
        if shared.dim() == 3:
            scores = _best_head_scores(shared, self.queries).T
        else:
            scores = _best_head_scores(self.queries, shared)
        if self.first_shared == 0:
            return scores
        own = (_as_heads(self.queries) * _as_heads(self.candidates[self.positives])).sum(dim=-1).amax(dim=1)
        return torch.cat([own.unsqueeze(1).to(scores.dtype), scores], dim=1)

    @property
    def bias(self) -> Tensor | None:
        """`(columns,)` what is added to the scores: -log_q, and -inf for shared columns that a mask takes out."""
        bias = None if self.log_q is None else -self.log_q
        if self.mask is None:
            return bias
        bias = torch.zeros(len(self.mask), device=self.mask.device) if bias is None else bias
        is_shared = torch.arange(len(bias), device=bias.device) >= self.first_shared
        return bias.masked_fill(is_shared & ~self.mask, -torch.inf)

    def positives_first(self) -> "RetrievalBatch":
        """Return the batch with positives, ids, log_q and mask that fit `scores`.

        If not all columns are shared, these are `(batch, 1 + shared columns)`, the positive in column 0.
        """
        if self.first_shared == 0:
            return self
        shared = torch.arange(self.first_shared, len(self.candidates), device=self.positives.device)
        columns = torch.cat([self.positives.unsqueeze(1), shared.expand(len(self.positives), -1)], dim=1)
        ids, log_q, mask = (
            None if tensor is None else tensor[columns] if tensor.dim() == 1 else tensor.gather(1, columns)
            for tensor in (self.ids, self.log_q, self.mask)
        )
        return replace(self, positives=torch.zeros_like(self.positives), ids=ids, log_q=log_q, mask=mask)

    def split(self, size: int) -> "list[RetrievalBatch]":
        """Return batches of at most `size` queries each, all with all candidates; at least one."""
        return [self._queries(slice(start, start + size)) for start in range(0, max(len(self.queries), 1), size)]

    def transposed(self) -> "RetrievalBatch":
        """Let each positive look for its query, where query i belongs to column i.

        Returns:
            A batch of square scores. Sampling is not corrected: log_q is constant in each of the new rows.
        """
        batch, ids = len(self.queries), self.ids
        return RetrievalBatch(
            self.candidates[:batch],
            self.queries,
            self.positives,
            ids=None if ids is None else ids[:batch] if ids.dim() == 1 else ids.diagonal(),
            mask=None if self.mask is None else self.mask[:, :batch].T,
        )

    def _queries(self, rows: slice) -> "RetrievalBatch":
        ids, log_q, mask = (
            tensor[rows] if tensor is not None and tensor.dim() == 2 else tensor
            for tensor in (self.ids, self.log_q, self.mask)
        )
        queries, positives = self.queries[rows], self.positives[rows]
        return replace(self, queries=queries, positives=positives, ids=ids, log_q=log_q, mask=mask)


def gather_candidates(
    queries: Tensor, candidates: Tensor, *, ids: Tensor | None, log_q: Tensor | None, mask: Tensor | None
) -> tuple[RetrievalBatch, list[int]]:
    """Compare the queries of this process with the candidates of all processes.

    Args:
        queries: `(batch, dim)` or `(batch, heads, dim)` of this process; query i belongs to its candidate i.
        candidates: `(columns, dim)` of this process.
        ids: `(columns,)` of this process.
        log_q: `(columns,)` of this process.
        mask: `(batch, columns)` of pairs of this process; pairs with candidates of others are always compared.

    Returns:
        The batch, and the number of queries in every process, by rank.

    Raises:
        ShapeError: embeddings that do not fit, or ids or log_q with a row per query, which others cannot share.
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
    gathered = gather_rows(candidates, columns)
    return RetrievalBatch(
        queries,
        gathered,
        start + torch.arange(len(queries), device=queries.device),
        ids=None if ids is None else gather_rows(ids, columns),
        log_q=None if log_q is None else gather_rows(log_q, columns),
        mask=_widened(mask, len(gathered), start),
    ), [size[0] for size in sizes]


def gather_queries(
    queries: Tensor, candidates: Tensor, num_queries: list[int], *, ids: Tensor | None, mask: Tensor | None
) -> RetrievalBatch:
    """Compare the positives of this process with the queries of all processes.

    Args:
        queries: `(batch, dim)` or `(batch, heads, dim)` of this process; query i belongs to its candidate i.
        candidates: `(columns, dim)` of this process.
        num_queries: queries in every process, by rank.
        ids: `(columns,)` of this process.
        mask: `(batch, columns)` of pairs of this process.

    Returns:
        The transposed batch, with scores `(batch, queries of all processes)`.
    """
    batch = len(queries)
    start = sum(num_queries[: process_rank()])
    gathered = gather_rows(queries, num_queries)
    return RetrievalBatch(
        candidates[:batch],
        gathered,
        start + torch.arange(batch, device=queries.device),
        ids=None if ids is None else gather_rows(ids[:batch], num_queries),
        mask=_widened(None if mask is None else mask[:, :batch].T, len(gathered), start),
    )


def _as_heads(embeddings: Tensor) -> Tensor:
    return embeddings if embeddings.dim() == 3 else embeddings.unsqueeze(1)


def _best_head_scores(queries: Tensor, candidates: Tensor) -> Tensor:
    scores = queries @ candidates.T
    scores = scores if queries.dim() == 2 else scores.amax(dim=1)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _widened(mask: Tensor | None, num_columns: int, start: int) -> Tensor | None:
    if mask is None:
        return None
    widened = mask.new_ones(len(mask), num_columns)
    widened[:, start : start + mask.shape[1]] = mask
    return widened
