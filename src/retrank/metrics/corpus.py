"""Exact ranks of positives among all candidates of the corpus."""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.seeds import generator
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.metrics.metric import SumMetric
from retrank.ops.ranks import count_better
from retrank.ops.score_checks import RowLists, as_float32, largest_magnitude, may_overflow

__all__ = ["FullCorpusTopK", "rank_of_positive"]

_AT_K: Final = ("hit_rate", "ndcg")
_EXPECTED: Final = "finite embeddings, and positives that are candidate rows or -1"


def rank_of_positive(
    queries: Tensor, candidates: Tensor, positives: Tensor, *, exclude: RowLists | None = None
) -> Tensor:
    """Rank each query's positive among all candidates by dot product.

    The rank is 1 + the candidates with a higher score + those with an equal score that come before the positive in one
    fixed pseudo-random order of the candidates. So a model with equal scores for all ranks like chance, not
    first. The scores are never all in memory: only a block of them is.

    Args:
        queries: `(batch, dim)` float32, float16 or bfloat16; or `(batch, heads, dim)`, of which the best head counts.
        candidates: `(num_candidates, dim)`.
        positives: `(batch,)` int64 candidate row of each query's positive; -1 if it is not in the corpus.
        exclude: one row per query, of candidate rows, of any length, that do not count. The positive always counts.

    Returns:
        `(batch,)` float64 ranks from 1 on; infinity for a positive of -1.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: embeddings that are not finite, or a positive that is no candidate.

    Example:
        >>> import torch, retrank as rr
        >>> queries, candidates = torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([[3.0], [2.0], [1.0]])
        >>> seen = rr.Jagged.from_lists([[], [0, 1], []])
        >>> rr.metrics.rank_of_positive(queries, candidates, torch.tensor([2, 2, -1]), exclude=seen).tolist()
        [3.0, 1.0, inf]

    Source: TensorFlow Recommenders' `FactorizedTopK` counts ties as hits, and scores the positive by another
        computation than its rivals, so that rounding can shift the rank. Here both come from one matrix product.
    """
    ranks, bad = _ranks(queries, candidates, positives, exclude)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise DataError(_EXPECTED, f"positive {int(positives[row])}", f"row {row}")
    return ranks


@final
class FullCorpusTopK(SumMetric):
    """How high the positives rank among all candidates: hit rate and NDCG at several k, and the mean reciprocal rank.

    With one positive per query, the hit rate is the recall, and NDCG at k is 1 / log2(1 + rank) if rank <= k, else 0. A
    positive that is not in the corpus is a miss. Results are weighted means over queries.

    Args:
        ks: list lengths.
        metrics: any of `"hit_rate"`, `"ndcg"` (both once for each k) and `"mrr"`.
        name: for messages; results are named by metric and k.

    Raises:
        ConfigError: no k, a k below 1, or an unknown metric.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.FullCorpusTopK(ks=(1, 2))
        >>> metric.update(torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0], [2.0], [1.0]]), torch.tensor([1, 2]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'hit_rate@1': 0.5, 'hit_rate@2': 1.0, 'ndcg@1': 0.5, 'ndcg@2': 0.815, 'mrr': 0.75}

    Source: `FactorizedTopK` of TensorFlow Recommenders, without its optimism about ties: see `rank_of_positive`.
    """

    larger_is_better: ClassVar[bool | None] = True

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10, 50, 100),
        *,
        metrics: Sequence[str] = (*_AT_K, "mrr"),
        name: str = "full_corpus",
    ) -> None:
        unknown = sorted(set(metrics) - {*_AT_K, "mrr"})
        if unknown or not metrics:
            raise ConfigError(f"metrics among {[*_AT_K, 'mrr']}", str(unknown), "FullCorpusTopK")
        if not ks or min(ks) < 1:
            raise ConfigError("at least one k, all at least 1", str(list(ks)), "FullCorpusTopK", "e.g. ks=(10, 100)")
        self.ks, self.metrics = tuple(ks), tuple(metrics)
        self._names = tuple(
            label for metric in metrics for label in ([f"{metric}@{k}" for k in ks] if metric in _AT_K else [metric])
        )
        super().__init__(name, num_sums=len(self._names) + 2)

    @property
    def result_names(self) -> tuple[str, ...]:
        """The names of the values, such as `"ndcg@10"`."""
        return self._names

    @torch.no_grad()
    def update(
        self,
        queries: Tensor,
        candidates: Tensor,
        positives: Tensor,
        *,
        exclude: RowLists | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Rank a batch of positives.

        Args:
            queries: `(batch, dim)`, or `(batch, heads, dim)`, of which the best head counts.
            candidates: `(num_candidates, dim)`, the whole corpus.
            positives: `(batch,)` int64 candidate rows; -1 for a positive that is not in the corpus.
            exclude: one row per query, of candidate rows that do not count, e.g. seen in training.
            weight: `(batch,)` or None for 1.

        Raises:
            ShapeError: tensors that do not fit.
            DataError: an excluded row that is no candidate.
        """
        where = f"metric '{self.name}'"
        queries, candidates = as_tensor(queries, "queries", where), as_tensor(candidates, "candidates", where)
        positives = as_tensor(positives, "positives", where)
        weight = as_tensor_or_none(weight, "weight", where)
        if weight is not None and weight.shape != positives.shape:
            raise _shape_error(f"weight of shape {tuple(positives.shape)}", weight)
        ranks, bad = _ranks(queries, candidates, positives, exclude)
        weight = torch.ones_like(ranks) if weight is None else weight.to(ranks)
        bad |= ~(weight.isfinite() & (weight >= 0))
        values = torch.stack([self._value(name, ranks) for name in self._names])
        self._add(torch.cat([values @ weight, weight.sum()[None], bad.sum()[None]]))
        self.num_rows += len(ranks)

    def compute(self) -> dict[str, Tensor]:
        """Return the weighted means over all queries so far.

        Returns:
            Float64 scalars by names like `"hit_rate@10"`, `"ndcg@10"` and `"mrr"`; NaN before the first query.

        Raises:
            DataError: embeddings that were not finite, positives that were no candidates, or negative weights.
        """
        *totals, weight, num_bad = self._sums
        self._check_bad_rows(num_bad, f"{_EXPECTED}, and weights of at least 0")
        return {name: total / weight for name, total in zip(self._names, totals, strict=True)}

    def _value(self, name: str, ranks: Tensor) -> Tensor:
        metric, _, k = name.partition("@")
        if metric == "mrr":
            return 1 / ranks
        gain = torch.ones_like(ranks) if metric == "hit_rate" else 1 / torch.log2(1 + ranks)
        return gain.where(ranks <= int(k), 0)


@torch.no_grad()
def _ranks(queries: Tensor, candidates: Tensor, positives: Tensor, exclude: RowLists | None) -> tuple[Tensor, Tensor]:
    """Return the ranks, and which of them mean nothing because their input was bad."""
    if positives.shape != queries.shape[:1] or positives.dtype != torch.int64:
        raise _shape_error(f"int64 positives of shape ({len(queries)},)", positives)
    if queries.dim() not in (2, 3) or 0 in queries.shape[1:]:
        raise _shape_error("queries of shape (batch, dim) or (batch, heads, dim)", queries)
    heads = queries[:, None] if queries.dim() == 2 else queries
    candidates = as_float32(candidates, "candidates")
    if len(candidates) == 0:
        raise ShapeError("at least one candidate", "none", "candidates", "give the embeddings of the catalogue")
    order = _tie_order(len(candidates), candidates.device)
    rows = positives.clamp(0, len(candidates) - 1)
    num_better = count_better(heads, candidates, order, rows, exclude=exclude)
    unsafe = may_overflow(heads.detach().abs().amax(dim=1), largest_magnitude(candidates))
    bad = unsafe | (positives < -1) | (positives >= len(candidates))
    return (1 + num_better).double().where(positives != -1, torch.inf), bad


@lru_cache(maxsize=4)
def _tie_order(num_candidates: int, device: torch.device) -> Tensor:
    """Return candidate rows in the order in which ties are broken."""
    return torch.randperm(num_candidates, generator=generator(0, "tie order")).to(device)


def _shape_error(expected: str, tensor: Tensor) -> ShapeError:
    got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
    return ShapeError(expected, got, "full-corpus ranks")
