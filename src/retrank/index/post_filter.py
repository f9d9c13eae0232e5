"""Exclusions and allow-lists for an index that another library searches: what is left, and which results must go."""

from typing import Final, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.ops.best_candidates import Allowed
from retrank.ops.score_checks import RowLists, checked_lists, checked_mask, is_shared
from retrank.ops.top_k import pack, unpack

__all__ = ["PostFilter"]

_FEW: Final = 1024  # allowed candidates that are all scored, instead of searched for


@final
class PostFilter:
    """The exclusions and allow-lists of one search, as sorted distinct pairs.

    Args:
        num_candidates: in the index.
        num_queries: that are searched.
        exclude: one list per query of candidate rows that are removed, or None.
        allow: the only candidates that stay, in any of the forms of `Allowed`, or None.

    Raises:
        ShapeError: lists or a mask that do not fit.
        DataError: a row that is no candidate.
    """

    def __init__(self, num_candidates: int, num_queries: int, exclude: RowLists | None, allow: Allowed | None) -> None:
        self._num_candidates, cpu = num_candidates, torch.device("cpu")
        if exclude is None:
            exclude = Jagged.empty(num_queries)
        self._excluded = self._codes(checked_lists(exclude, num_queries, num_candidates, cpu, "exclude"))
        self.num_excluded = torch.bincount(self._excluded // num_candidates, minlength=num_queries)
        self.shared: Tensor | None = None
        self._own: Tensor | None = None
        if allow is None:
            self.num_left = num_candidates - self.num_excluded
        elif isinstance(allow, Tensor) or is_shared(allow):
            if isinstance(allow, Tensor):
                self.shared = checked_mask(allow, num_candidates, cpu, "allow").nonzero()[:, 0]
            else:
                self.shared = torch.unique(checked_lists(allow, 1, num_candidates, cpu, "allow").values)
            both = self._excluded[torch.isin(self._excluded % num_candidates, self.shared)]
            self.num_left = len(self.shared) - torch.bincount(both // num_candidates, minlength=num_queries)
        else:
            own = self._codes(checked_lists(allow, num_queries, num_candidates, cpu, "allow"))
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

    def shared_mask(self) -> Tensor | None:
        """Return what any query may get: `(num_candidates,)` bool, or None for all."""
        return None if self.shared is None else self._mask(self.shared)

    def mask_of(self, query: int) -> Tensor:
        """Return what one query may get: `(num_candidates,)` bool.

        Args:
            query: its number.
        """
        if self._own is not None:
            return self._mask(self._slice(self._own, query))
        allowed = torch.ones(self._num_candidates, dtype=torch.bool) if self.shared is None else self._mask(self.shared)
        allowed[self._slice(self._excluded, query)] = False
        return allowed

    def _mask(self, rows: Tensor) -> Tensor:
        mask = torch.zeros(self._num_candidates, dtype=torch.bool)
        mask[rows] = True
        return mask

    def _codes(self, pairs: Jagged) -> Tensor:
        codes: Tensor = torch.unique(pairs.row_index() * self._num_candidates + pairs.values)
        return codes

    def _slice(self, codes: Tensor, query: int) -> Tensor:
        edges = torch.tensor([query, query + 1]) * self._num_candidates
        first, last = torch.searchsorted(codes, edges).tolist()
        return codes[first:last] - query * self._num_candidates
