"""Exclusions and allow-lists for an index that cannot mask scores: what is left, and which results must go."""

from typing import Final, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.index.blocks import check_pairs
from retrank.ops.top_k import pack, unpack

__all__ = ["PairFilter"]

_FEW: Final = 1024  # allowed candidates that are all scored, instead of searched for


@final
class PairFilter:
    """The exclusions and allow-lists of one search, as sorted distinct pairs.

    Args:
        num_candidates: in the index.
        num_queries: that are searched.
        exclude: one row a query of candidate rows that are removed, or None.
        allow: one row a query, or one row for all queries, of the only candidate rows that stay, or None.

    Raises:
        ShapeError: a number of rows or a dtype that does not fit.
        DataError: a row that is no candidate.
    """

    def __init__(self, num_candidates: int, num_queries: int, exclude: Jagged | None, allow: Jagged | None) -> None:
        self._num_candidates = num_candidates
        exclude = Jagged.empty(num_queries) if exclude is None else exclude.to("cpu")
        check_pairs(exclude, num_queries, num_candidates, "exclude")
        self._excluded = self._codes(exclude)
        self.num_excluded = torch.bincount(self._excluded // num_candidates, minlength=num_queries)
        self.shared: Tensor | None = None
        self._own: Tensor | None = None
        if allow is None:
            self.num_left = num_candidates - self.num_excluded
        elif len(allow) == 1:
            check_pairs(allow, 1, num_candidates, "allow")
            self.shared = torch.unique(allow.values.cpu())
            both = self._excluded[torch.isin(self._excluded % num_candidates, self.shared)]
            self.num_left = len(self.shared) - torch.bincount(both // num_candidates, minlength=num_queries)
        else:
            check_pairs(allow, num_queries, num_candidates, "allow")
            own = self._codes(allow.to("cpu"))
            self._own = own[~torch.isin(own, self._excluded)]
            self.num_left = torch.bincount(self._own // num_candidates, minlength=num_queries)

    @property
    def has_own_lists(self) -> bool:
        """Whether each query has an allow-list of its own."""
        return self._own is not None

    @property
    def shares_few(self) -> bool:
        """Whether the allow-list of all queries is so short that all of it should be scored."""
        return self.shared is not None and len(self.shared) <= _FEW

    def are_few(self, query: int) -> bool:
        """Say whether a query's own allow-list leaves so few candidates that all should be scored.

        Args:
            query: its number.
        """
        return self._own is not None and int(self.num_left[query]) <= _FEW

    def without_excluded(self, queries: Tensor, packed: Tensor) -> Tensor:
        """Take excluded candidates out of results.

        Args:
            queries: `(n,)` numbers of queries.
            packed: `(n, places)` what was found for them.

        Returns:
            `(n, places)`, packed, with missing places where the excluded were.
        """
        scores, rows = unpack(packed)
        excluded = torch.isin(queries[:, None] * self._num_candidates + rows, self._excluded)
        return pack(scores.masked_fill(excluded, -torch.inf), rows.clamp(min=0))

    def of(self, query: int) -> tuple[Tensor, bool]:
        """Return the rule for one query.

        Args:
            query: its number.

        Returns:
            Ascending candidate rows, and whether they are the only ones that stay (else: the ones that are removed).
        """
        if self._own is not None:
            return self._slice(self._own, query), True
        excluded = self._slice(self._excluded, query)
        if self.shared is None:
            return excluded, False
        return self.shared[~torch.isin(self.shared, excluded)], True

    def _codes(self, pairs: Jagged) -> Tensor:
        codes: Tensor = torch.unique(pairs.row_index() * self._num_candidates + pairs.values)
        return codes

    def _slice(self, codes: Tensor, query: int) -> Tensor:
        edges = torch.tensor([query, query + 1]) * self._num_candidates
        first, last = torch.searchsorted(codes, edges).tolist()
        return codes[first:last] - query * self._num_candidates
