"""Lists of candidates, and the pairs of a query and a candidate in them."""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.batch import Batch

__all__ = [
    "IS_STANDARD",
    "LIST",
    "PAIR_COLUMNS",
    "RETRIEVAL_RANK",
    "RETRIEVAL_SCORE",
    "Candidates",
    "pair_batch",
    "retrieval_ranks",
]

RETRIEVAL_SCORE: Final = "retrieval_score"
"""The column of pairs with the score that retrieval gave."""
RETRIEVAL_RANK: Final = "retrieval_rank"
"""The column of pairs with the place, from 0, that the retrieval score has in the standard list."""
LIST: Final = "list"
"""The column of pairs with the number of the list a pair belongs to; missing places share a list of their own."""
IS_STANDARD: Final = "is_standard"
"""The column of pairs that says whether a pair is of its query's standard list: what retrieval finds for the query
whatever a request asks for. A model that looks at lists as a whole looks at these pairs, so no score depends on the
others."""
PAIR_COLUMNS: Final = (RETRIEVAL_SCORE, RETRIEVAL_RANK, LIST, IS_STANDARD)
"""What `pair_batch` adds to the features."""


@final
class Candidates(NamedTuple):
    """A list of candidates for each of some queries.

    Args:
        scores: `(queries, k)` float32, best first; -inf where a list is shorter.
        rows: `(queries, k)` int64 rows of the catalogue; -1 where a list is shorter.
    """

    scores: Tensor
    rows: Tensor


def retrieval_ranks(scores: Tensor, num_standard: int) -> Tensor:
    """Return the place that each score has among the standard ones of its list: equal scores have one place.

    Args:
        scores: `(queries, k)`; the first `num_standard` of each list are standard, best first.
        num_standard: how many.

    Returns:
        `(queries, k)` int64 from 0 to `num_standard`.

    Example:
        >>> import torch
        >>> from retrank.models.pairs import retrieval_ranks
        >>> retrieval_ranks(torch.tensor([[4.0, 3.0, 3.0, 1.0, 9.0, 2.0]]), num_standard=4)
        tensor([[0, 1, 1, 3, 0, 3]])
    """
    descending = -scores
    return torch.searchsorted(descending[:, :num_standard].contiguous(), descending)


def pair_batch(
    queries: Batch,
    catalogue: Batch,
    lists: Candidates,
    *,
    query_features: Sequence[str] | None = None,
    num_standard: int | None = None,
) -> Batch:
    """Put every query beside every candidate of its list.

    Args:
        queries: query features, one row per query.
        catalogue: candidate features, one row per candidate.
        lists: `(queries, k)`; a missing place is filled with row 0 of the catalogue, score 0 and list `queries`.
        query_features: the columns of `queries` to keep; all by default.
        num_standard: how many places of each list, from the first, are of the standard list; all by default.

    Returns:
        `queries * k` rows, list after list: the query's columns, the candidate's, and `PAIR_COLUMNS`.

    Example:
        >>> import torch, retrank as rr
        >>> queries = rr.Batch({"age": torch.tensor([20, 30])})
        >>> catalogue = rr.Batch({"year": torch.tensor([90, 91, 92])})
        >>> lists = rr.models.Candidates(torch.tensor([[2.0, 1.0], [3.0, -torch.inf]]), torch.tensor([[0, 2], [1, -1]]))
        >>> pairs = rr.models.pair_batch(queries, catalogue, lists)
        >>> pairs["age"].tolist(), pairs["year"].tolist(), pairs["list"].tolist()
        ([20, 20, 30, 30], [90, 92, 91, 90], [0, 0, 1, 2])
    """
    num_queries, k = lists.rows.shape
    query_rows = torch.arange(num_queries, device=lists.rows.device).repeat_interleave(k)
    num_standard = k if num_standard is None else num_standard
    missing = lists.rows.reshape(-1) < 0
    pairs = catalogue.take(lists.rows.reshape(-1).clamp(min=0))
    names = queries.names if query_features is None else query_features
    if names:
        pairs = queries.select(names).take(query_rows).merge(pairs)
    return pairs.merge(
        {
            RETRIEVAL_SCORE: lists.scores.reshape(-1).masked_fill(missing, 0.0),
            RETRIEVAL_RANK: retrieval_ranks(lists.scores, num_standard).reshape(-1),
            LIST: query_rows.masked_fill(missing, num_queries),
            IS_STANDARD: (torch.arange(k, device=missing.device) < num_standard).repeat(num_queries),
        }
    )
