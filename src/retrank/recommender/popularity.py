"""`PopularCandidates`: what to list for queries of which nothing is known."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.models.pairs import Candidates

__all__ = ["PopularCandidates"]


@final
class PopularCandidates:
    """The candidates in the order of their popularity, sorted once.

    Args:
        counts: `(candidates,)` int64 interactions of each row of the catalogue.
        ties: `(candidates,)` int64 the rows in the order in which equal counts come; their own order by default.

    Example:
        >>> import torch, retrank as rr
        >>> popular = rr.recommender.PopularCandidates(torch.tensor([1, 5, 3]))
        >>> popular.best(2, exclude=rr.Jagged.from_lists([[], [1]])).rows.tolist()
        [[1, 2], [2, 0]]
    """

    def __init__(self, counts: Tensor, ties: Tensor | None = None) -> None:
        self.counts, self._ties = counts, ties

    @cached_property
    def order(self) -> Tensor:
        """`(candidates,)` int64 the rows, the most popular first."""
        if self._ties is None:
            return torch.argsort(self.counts, descending=True, stable=True)
        return self._ties[torch.argsort(self.counts[self._ties], descending=True, stable=True)]

    def best(self, k: int, *, exclude: Jagged, allow: Tensor | None = None) -> Candidates:
        """List the most popular candidates.

        Args:
            k: the length of a list.
            exclude: rows of the catalogue that a query must not get; its length is the number of queries.
            allow: `(candidates,)` bool, which rows any query may get, or `(queries, candidates)`; None allows all.

        Returns:
            The lists, with counts as scores; equal counts come in the order of `ties`. Missing places have row -1.
        """
        rows = torch.full((len(exclude), k), -1)
        for query, excluded in enumerate(exclude.offsets.unfold(0, 2, 1).tolist()):
            found = self._first(k, exclude.values[excluded[0] : excluded[1]], _of(allow, query))
            rows[query, : len(found)] = found
        scores = self.counts[rows.clamp(min=0)].float().masked_fill(rows < 0, -torch.inf)
        return Candidates(scores, rows)

    def _first(self, k: int, excluded: Tensor, allow: Tensor | None) -> Tensor:
        """Walk down the order, twice as far each time, until there are enough."""
        depth = k + len(excluded)
        while True:
            rows = self.order[:depth]
            kept = ~torch.isin(rows, excluded)
            if allow is not None:
                kept &= allow[rows]
            found = rows[kept][:k]
            if len(found) == k or depth >= len(self.order):
                return found
            depth *= 2


def _of(allow: Tensor | None, query: int) -> Tensor | None:
    return allow if allow is None or allow.dim() == 1 else allow[query]
