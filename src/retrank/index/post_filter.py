"""Exclusions and allow-lists for an index that another library searches: what is left, and which results must go."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from retrank.ops.best_candidates import Allowed
from retrank.ops.score_checks import RowLists, checked_lists, checked_mask, is_shared
from retrank.ops.top_k import pack, unpack

__all__ = ["PostFilter"]


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
        self._num_candidates, self._cpu = num_candidates, torch.device("cpu")
        self._excluded = self._pairs(exclude, num_queries, "exclude")
        self.num_excluded = self._counts(self._excluded, num_queries)
        self.shared_mask: Tensor | None = None
        """What all queries may get, beside what is excluded: `(num_candidates,)` bool, or None for all."""
        self.num_shared = num_candidates
        """How many candidates that leaves."""
        self._own: Tensor | None = None
        if allow is None:
            self.num_left = num_candidates - self.num_excluded
        elif isinstance(allow, Tensor) or is_shared(allow):
            mask = self._shared(allow)
            self.shared_mask, self.num_shared = mask, int(np.count_nonzero(mask.numpy()))
            both = self._excluded[mask[self._excluded % num_candidates]]
            self.num_left = self.num_shared - self._counts(both, num_queries)
        else:
            own = self._pairs(allow, num_queries, "allow")
            self._own = own[~torch.isin(own, self._excluded)]
            self.num_left = self._counts(self._own, num_queries)

    @property
    def has_own_lists(self) -> bool:
        """Whether each query has an allow-list of its own."""
        return self._own is not None

    def without_excluded(self, queries: Tensor, packed: Tensor) -> Tensor:
        """Take excluded candidates out of results.

        Args:
            queries: `(n,)` numbers of queries.
            packed: `(n, places)` what was found for them.

        Returns:
            `(n, places)`, packed, with missing places where the excluded were.
        """
        if not len(self._excluded):
            return packed
        scores, rows = unpack(packed)
        pairs = queries[:, None] * self._num_candidates + rows
        places = torch.searchsorted(self._excluded, pairs).clamp(max=len(self._excluded) - 1)
        return pack(scores.masked_fill(self._excluded[places] == pairs, -torch.inf), rows.clamp(min=0))

    def mask_of(self, query: int) -> Tensor:
        """Return what one query may get: `(num_candidates,)` bool.

        Args:
            query: its number.
        """
        if self._own is not None:
            mask = torch.zeros(self._num_candidates, dtype=torch.bool)
            mask[self._slice(self._own, query)] = True
            return mask
        everything = torch.ones(self._num_candidates, dtype=torch.bool)
        allowed = everything if self.shared_mask is None else self.shared_mask.clone()
        allowed[self._slice(self._excluded, query)] = False
        return allowed

    def _shared(self, allow: Allowed) -> Tensor:
        if isinstance(allow, Tensor):
            return checked_mask(allow, self._num_candidates, self._cpu, "allow")
        mask = torch.zeros(self._num_candidates, dtype=torch.bool)
        mask[checked_lists(allow, 1, self._num_candidates, self._cpu, "allow").values] = True
        return mask

    def _pairs(self, lists: RowLists | None, num_queries: int, where: str) -> Tensor:
        if lists is None:
            return torch.empty(0, dtype=torch.int64)
        checked = checked_lists(lists, num_queries, self._num_candidates, self._cpu, where)
        pairs: Tensor = torch.unique(checked.row_index() * self._num_candidates + checked.values)
        return pairs

    def _counts(self, pairs: Tensor, num_queries: int) -> Tensor:
        return torch.bincount(pairs // self._num_candidates, minlength=num_queries)

    def _slice(self, pairs: Tensor, query: int) -> Tensor:
        edges = torch.tensor([query, query + 1]) * self._num_candidates
        first, last = torch.searchsorted(pairs, edges).tolist()
        return pairs[first:last] - query * self._num_candidates
