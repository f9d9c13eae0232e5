"""`RerankedLists`: whole lists of candidates scored by a `Reranker` that is served."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.jagged import Jagged
from retrank.embeddings.collection import EmbeddingCollection
from retrank.models.number_columns import number_columns
from retrank.models.pairs import Candidates, retrieval_ranks

__all__ = ["Correction", "RerankedLists", "Together", "standardized"]


@final
class Correction(NamedTuple):
    """Corrects the scores of pairs whose features are vectors already."""

    cross: Callable[[Tensor], Tensor]
    dense: Callable[[Tensor], Tensor]
    retrieval_weight: Tensor

    def __call__(
        self,
        scores: Tensor,
        ranks: Tensor,
        lists: Tensor,
        is_standard: Tensor | None,
        together: Tensor | None,
        features: Sequence[Tensor],
    ) -> Tensor:
        """Score pairs.

        Args:
            scores: `(pairs,)`, of retrieval.
            ranks: `(pairs,)`, of retrieval, from 0.
            lists: `(pairs,)` int64 list of each pair.
            is_standard: `(pairs,)` bool, which pairs say what is usual in their list; None for all.
            together: `(pairs, windows)` co-occurrence with the recent candidates, or None for a model without.
            features: `(pairs, width)` each, numbers in order and then vectors of ids in order.

        Returns:
            `(pairs,)` scores.
        """
        varying = scores[:, None] if together is None else torch.cat([scores[:, None], together], dim=1)
        within_list = standardized(varying, lists, is_standard)
        retrieval, others = within_list[:, :1], within_list[:, 1:]
        place = ranks.float().log1p()[:, None] / 3  # about 1.5 for place 100
        inputs = torch.cat([retrieval, place, others, *features], dim=1)
        return self.retrieval_weight * retrieval[:, 0] + self.dense(self.cross(inputs))[:, 0]


def standardized(values: Tensor, lists: Tensor, is_standard: Tensor | None = None) -> Tensor:
    """Shift and scale numbers such that the standard ones have mean 0 and variance 1 within each list.

    None goes further from 0 than one of n standard numbers may, √(n - 1).

    Args:
        values: `(pairs, width)`.
        lists: `(pairs,)` int64 number of each pair's list.
        is_standard: `(pairs,)` bool, or None if all are.

    Returns:
        `(pairs, width)`; 0 where the standard numbers of a list do not vary.

    Example:
        >>> import torch, retrank as rr
        >>> standardized = rr.models.reranked_lists.standardized
        >>> standardized(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1])).tolist()
        [[-1.0], [1.0], [0.0]]
        >>> is_standard = torch.tensor([True, True, False])
        >>> standardized(torch.tensor([[1.0], [3.0], [2.0]]), torch.zeros(3).long(), is_standard).tolist()
        [[-1.0], [1.0], [0.0]]
    """
    num_lists = len(lists) + 1  # an upper bound, which needs no synchronization with the device
    sums = values.new_zeros(num_lists, values.shape[1])
    shares = torch.ones_like(values) if is_standard is None else is_standard[:, None].to(values.dtype).expand_as(values)
    counts = sums.index_add(0, lists, shares).clamp(min=1)
    centred = values - (sums.index_add(0, lists, values * shares) / counts)[lists]
    variance = sums.index_add(0, lists, centred.square() * shares) / counts
    # Standard numbers are within these limits but for rounding, which must not tell them from the same among others.
    limits = (counts - 1).sqrt().where(variance > 0, 0)[lists]
    return (centred * (variance + 1e-12).rsqrt()[lists]).clamp(-limits, limits)


@final
class Together(NamedTuple):
    """What is needed to compare candidates with the recent ones of a query."""

    similarities: Callable[[Jagged, Tensor, Tensor], Tensor]
    """A prepared `CoOccurrence`."""
    recent: str
    """The query's feature."""
    ids: Tensor
    """`(candidates,)`, of the whole catalogue."""


@final
class RerankedLists:
    """Scores lists of candidates; see `Reranker.list_scorer`.

    Args:
        catalogue: transformed candidate features, one row per candidate.
        numbers: the features of numbers that the model reads, which come first.
        embeddings: of the features of ids, in order.
        together: for the co-occurrence with recent candidates, or None.
        correction: what makes scores of all that. Nothing here may change.
    """

    def __init__(
        self,
        catalogue: Batch,
        numbers: Sequence[str],
        embeddings: EmbeddingCollection,
        together: Together | None,
        correction: Correction,
    ) -> None:
        self._together, self._correction = together, correction
        # Neighboring features of one side are one piece; all together are in the order that `forward` has them in.
        names = [*numbers, *embeddings.dims]
        pieces = [
            (is_own, _Piece(list(group), numbers, embeddings))
            for is_own, group in groupby(names, lambda name: name in catalogue)
        ]
        with torch.inference_mode():  # what is the candidate's is looked up once
            self._pieces = [piece(catalogue) if is_own else piece for is_own, piece in pieces]

    def __call__(self, queries: Batch, lists: Candidates, num_standard: int | None = None) -> Tensor:
        """Score lists.

        Args:
            queries: transformed query features, one row per query.
            lists: `(queries, k)`; a missing place has row -1.
            num_standard: how many places of each list, from the first, are of the standard list; all by default.

        Returns:
            `(queries, k)` scores; those of missing places mean nothing.
        """
        num_queries, k = lists.rows.shape
        rows, scores = lists.rows.reshape(-1), lists.scores.reshape(-1)
        owners = of = torch.arange(num_queries).repeat_interleave(k)
        if bool((missing := rows < 0).any()):
            rows, scores = rows.clamp(min=0), scores.masked_fill(missing, 0.0)
            of = owners.masked_fill(missing, num_queries)  # a list of their own
        together = None
        if self._together is not None:
            similarities, recent, ids = self._together
            together = similarities(queries[recent], ids[rows], owners)
        features = [piece[rows] if isinstance(piece, Tensor) else piece(queries)[owners] for piece in self._pieces]
        num_standard = k if num_standard is None else num_standard
        ranks = retrieval_ranks(lists.scores, num_standard).reshape(-1)
        is_standard = None if num_standard == k else (torch.arange(k) < num_standard).repeat(num_queries)
        return self._correction(scores, ranks, of, is_standard, together, features).view(num_queries, k)


@final
class _Piece:
    """Features side by side."""

    def __init__(self, names: Sequence[str], numbers: Sequence[str], embeddings: EmbeddingCollection) -> None:
        self._numbers = [name for name in names if name in numbers]
        ids = [name for name in names if name not in numbers]
        self._lookups = embeddings.prepared(ids) if ids else None

    def __call__(self, batch: Batch) -> Tensor:
        parts = number_columns(batch, self._numbers)
        if self._lookups is not None:
            parts.append(self._lookups(batch))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
