"""`BroughtHistories`: what queries have done, as they say themselves, in place of what the log says."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged

__all__ = ["BroughtHistories"]


@final
@dataclass(frozen=True)
class BroughtHistories:
    """Candidates that queries bring as their history, oldest first; keys that nothing here knows have fallen out.

    Args:
        is_brought: `(n,)` bool, which queries bring one; the lists of the others are empty.
        codes: n lists of int64 that tell candidates apart, in the order in which the log has them.
        rows: `(total,)` int64, their rows of the catalogue; -1 for one that it does not hold.
        ids: `(total,)` int64, what the model or baseline knows them by.

    Example:
        >>> import torch, retrank as rr
        >>> from retrank.recommender.brought_histories import BroughtHistories
        >>> codes, ids = rr.Jagged.from_lists([[4, 1, 4]]), torch.tensor([9, 8, 9])
        >>> brought = BroughtHistories(torch.tensor([True]), codes, torch.tensor([3, -1, 3]), ids)
        >>> brought.latest(2).to_lists(), brought.distinct().to_lists(), brought.candidate_rows().to_lists()
        ([[8, 9]], [[8, 9]], [[3, 3]])
    """

    is_brought: Tensor
    codes: Jagged
    rows: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.is_brought)

    def take(self, index: Tensor) -> "BroughtHistories":
        """Return the histories of some of the queries, in an order."""
        places = self.codes.with_values(torch.arange(len(self.rows))).take(index)
        return BroughtHistories(
            self.is_brought[index], self.codes.take(index), self.rows[places.values], self.ids[places.values]
        )

    def all_ids(self) -> Jagged:
        """Return n lists of ids, oldest first."""
        return self.codes.with_values(self.ids)

    def latest(self, length: int | None) -> Jagged:
        """Return n lists of the latest ids, oldest first.

        Args:
            length: at most this many; None for all.
        """
        if length is None or bool((self.codes.lengths() <= length).all()):
            return self.all_ids()
        later = self.codes.offsets[1:][self.codes.row_index()] - torch.arange(1, len(self.ids) + 1)
        return Jagged.from_lengths(self.ids[later < length], self.codes.lengths().clamp(max=length))

    def distinct(self) -> Jagged:
        """Return n lists of ids, each candidate once, in the order of the log."""
        owners, span = self.codes.row_index(), int(self.codes.values.max()) + 1 if len(self.rows) else 1
        sorted_codes, order = torch.sort(owners * span + self.codes.values, stable=True)
        is_first = torch.ones_like(sorted_codes, dtype=torch.bool)
        is_first[1:] = sorted_codes[1:] != sorted_codes[:-1]
        kept = order[is_first]
        return Jagged.from_lengths(self.ids[kept], torch.bincount(owners[kept], minlength=len(self)))

    def candidate_rows(self) -> Jagged:
        """Return n lists of rows of the catalogue, without candidates that it does not hold."""
        is_candidate, owners = self.rows >= 0, self.codes.row_index()
        lengths = torch.bincount(owners[is_candidate], minlength=len(self))
        return Jagged.from_lengths(self.rows[is_candidate], lengths)
