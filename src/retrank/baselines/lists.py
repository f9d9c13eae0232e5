"""The best candidates of some queries: by popularity, and by scores of one's own."""

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.ops.top_k import best_of_block, empty_result, merge, unpack

__all__ = ["best_by_score", "most_popular"]


def most_popular(counts: Tensor, exclude: Jagged, k: int) -> tuple[Tensor, Tensor]:
    """List the first columns that a query may get, since columns are in order of popularity.

    Args:
        counts: `(columns,)` descending.
        exclude: distinct columns that each query must not get.
        k: the length of a list.

    Returns:
        Scores float32 and columns int64, `(queries, k)` each; -inf and -1 where fewer are left.

    Example:
        >>> import torch, retrank as rr
        >>> from retrank.baselines.lists import most_popular
        >>> most_popular(torch.tensor([9, 5, 5, 1]), rr.Jagged.from_lists([[2, 0], []]), k=2)[1].tolist()
        [[1, 3], [0, 1]]
    """
    num_queries, num_columns, owner = len(exclude), len(counts), exclude.row_index()
    excluded = torch.sort(owner * num_columns + exclude.values).values % num_columns
    # before the i-th excluded column of a query there are `column - i` that it may get, which is the place of the next
    allowed_before = excluded - (torch.arange(len(excluded)) - exclude.offsets[owner])
    near = allowed_before < k
    skipped = torch.bincount(owner[near] * k + allowed_before[near], minlength=num_queries * k)
    columns = torch.arange(k) + skipped.view(num_queries, k).cumsum(dim=1)
    there = columns < num_columns
    scores = counts.float()[columns.clamp(max=num_columns - 1)]
    return scores.where(there, -torch.inf), columns.where(there, -1)


def best_by_score(scores: Tensor, exclude: Jagged, k: int) -> tuple[Tensor, Tensor]:
    """List the columns of the highest scores, the more popular of equal ones first.

    Args:
        scores: `(queries, columns)` float32 without NaN; changed in place.
        exclude: columns that each query must not get.
        k: the length of a list, at most the number of columns.

    Returns:
        Scores float32 and columns int64, `(queries, k)` each, best first; -inf and -1 where fewer are left.

    Example:
        >>> import torch, retrank as rr
        >>> from retrank.baselines.lists import best_by_score
        >>> best_by_score(torch.tensor([[1.0, 3.0, 3.0, 2.0]]), rr.Jagged.from_lists([[1]]), k=2)[1].tolist()
        [[2, 3]]
    """
    scores[exclude.row_index(), exclude.values] = -torch.inf
    return unpack(merge(empty_result(len(scores), k, scores.device), best_of_block(scores, 0, k)))
