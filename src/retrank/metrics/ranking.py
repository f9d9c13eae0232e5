"""What a list of k recommendations is worth, given which of them are relevant.

Every function takes the same two tensors and returns one value per query. `hits` says which of the k places hold a
relevant candidate, best place first; `num_relevant` how many relevant candidates there are at all. A query without a
relevant candidate says nothing about the ranking: its value is NaN, so that leaving it out is the caller's decision.
"""

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError

__all__ = ["average_precision", "hit_rate", "mrr", "ndcg", "precision", "recall"]


def hit_rate(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return whether any of the k places is relevant.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query, in the list or not.

    Returns:
        `(queries,)` float64: 1, 0, or NaN for a query without a relevant candidate.

    Raises:
        ShapeError: other shapes or dtypes.
        DataError: a query with more hits than relevant candidates.

    Example:
        >>> import torch, retrank as rr
        >>> rr.metrics.hit_rate(torch.tensor([[False, True], [False, False]]), torch.tensor([3, 1])).tolist()
        [1.0, 0.0]
    """
    _check(hits, num_relevant)
    return _nan_without_relevant(hits.any(dim=1).double(), num_relevant)


def recall(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return the share of the relevant candidates that are among the k.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query.

    Returns:
        `(queries,)` float64: hits / num_relevant.

    Example:
        >>> import torch, retrank as rr
        >>> rr.metrics.recall(torch.tensor([[True, False, True]]), torch.tensor([4])).tolist()
        [0.5]

    Source: as in Keras-RS. NVIDIA Merlin divides by min(k, num_relevant).
    """
    _check(hits, num_relevant)
    return _nan_without_relevant(hits.double().sum(dim=1) / num_relevant, num_relevant)


def precision(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return the share of the k places that are relevant.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query.

    Returns:
        `(queries,)` float64: hits / k, also where fewer than k candidates were found.

    Example:
        >>> import torch, retrank as rr
        >>> rr.metrics.precision(torch.tensor([[True, False, True, False]]), torch.tensor([2])).tolist()
        [0.5]
    """
    _check(hits, num_relevant)
    return _nan_without_relevant(hits.double().mean(dim=1), num_relevant)


def mrr(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return 1 / the rank of the first relevant place.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query.

    Returns:
        `(queries,)` float64; 0 if none of the k is relevant.

    Example:
        >>> import torch, retrank as rr
        >>> rr.metrics.mrr(torch.tensor([[False, True, True]]), torch.tensor([2])).tolist()
        [0.5]
    """
    _check(hits, num_relevant)
    return _nan_without_relevant((hits / _ranks(hits)).amax(dim=1), num_relevant)


def ndcg(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return the discounted gain of the hits as a share of what the best list would have.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query.

    Returns:
        `(queries,)` float64: Σ 1 / log2(1 + rank) over the hits, by the same sum over the first
        min(k, num_relevant) ranks.

    Example:
        >>> import torch, retrank as rr
        >>> hits = torch.tensor([[True, False], [False, True]])
        >>> rr.metrics.ndcg(hits, torch.tensor([1, 1])).round(decimals=3).tolist()
        [1.0, 0.631]

    Source: Järvelin and Kekäläinen (2002), with gain 1 for relevant and 0 for all others.
    """
    _check(hits, num_relevant)
    discount = 1 / torch.log2(1 + _ranks(hits))
    best = (_ranks(hits) <= num_relevant[:, None]) * discount
    return _nan_without_relevant((hits * discount).sum(dim=1) / best.sum(dim=1), num_relevant)


def average_precision(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Return the mean of the precision at each hit, missing hits counting 0.

    Args:
        hits: `(queries, k)` bool, best place first.
        num_relevant: `(queries,)` integers, relevant candidates of each query.

    Returns:
        `(queries,)` float64: Σ precision at the hits / min(k, num_relevant), so that the best list has 1.

    Example:
        >>> import torch, retrank as rr
        >>> rr.metrics.average_precision(torch.tensor([[True, False, True, False]]), torch.tensor([2])).tolist()
        [0.8333333333333333]

    Source: Keras-RS divides by num_relevant, so that a list that is shorter than that never reaches 1.
    """
    _check(hits, num_relevant)
    ranks = _ranks(hits)
    precisions = (hits * (hits.cumsum(dim=1) / ranks)).sum(dim=1)
    return _nan_without_relevant(precisions / num_relevant.clamp(max=hits.shape[1]), num_relevant)


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)


def _nan_without_relevant(values: Tensor, num_relevant: Tensor) -> Tensor:
    return values.where(num_relevant > 0, torch.nan)


def _check(hits: Tensor, num_relevant: Tensor) -> None:
    if hits.dim() != 2 or hits.dtype != torch.bool or hits.shape[1] == 0:
        raise ShapeError(
            "bool hits of shape (queries, k), k at least 1",
            f"{hits.dtype} of shape {tuple(hits.shape)}",
            "ranking metric",
            "compare the recommended with the relevant candidates",
        )
    if num_relevant.shape != hits.shape[:1] or num_relevant.is_floating_point():
        raise ShapeError(
            f"integer num_relevant of shape ({len(hits)},)",
            f"{num_relevant.dtype} of shape {tuple(num_relevant.shape)}",
            "ranking metric",
            "count the relevant candidates of each query",
        )
    too_many = hits.sum(dim=1) > num_relevant
    if bool(too_many.any()):
        row = int(too_many.nonzero()[0])
        raise DataError(
            f"at most num_relevant = {int(num_relevant[row])} hits",
            str(int(hits[row].sum())),
            f"hits, row {row}",
            "a candidate may have been recommended twice, or a relevant one not counted",
        )
