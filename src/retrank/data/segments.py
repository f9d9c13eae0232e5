"""`Segment`: events in memory, those of a query together and by time."""

from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.core.jagged import Jagged

__all__ = ["Segment", "merged_windows"]


@final
class Segment(NamedTuple):
    """Events sorted by query, and within a query by time.

    Attributes:
        offsets: `(queries + 1,)` int64, where the events of each query begin. Queries that came later have no entry.
        candidates: `(events,)` int32 places of candidates.
        times: `(events,)` int64 or float64, or None.
    """

    offsets: Tensor
    candidates: Tensor
    times: Tensor | None

    @classmethod
    def empty_like(cls, other: "Segment") -> Self:
        """Return a segment without events."""
        times = None if other.times is None else other.times[:0]
        return cls(other.offsets.new_zeros(1), other.candidates[:0], times)

    @classmethod
    def of(
        cls, queries: Tensor, candidates: Tensor, times: Tensor | None, num_queries: int
    ) -> "tuple[Segment, Tensor]":
        """Sort events; equal times stay in their order.

        Args:
            queries: `(events,)` int64 places below `num_queries`.
            candidates: `(events,)` places.
            times: `(events,)` or None.
            num_queries: how many queries there are.

        Returns:
            The segment, and `(events,)` int64, which event each of its events was.
        """
        queries = queries.int()  # torch sorts half as many bytes in half the time
        if times is None or bool((times[1:] >= times[:-1]).all()):
            order = torch.argsort(queries, stable=True)
        else:
            by_time = torch.argsort(times, stable=True)
            order = by_time[torch.argsort(queries[by_time], stable=True)]
        counts = torch.bincount(queries, minlength=num_queries)
        offsets = torch.zeros(num_queries + 1, dtype=torch.int64)
        torch.cumsum(counts, dim=0, out=offsets[1:])
        return cls(offsets, candidates.int()[order], None if times is None else times[order]), order

    @classmethod
    def checked(
        cls, offsets: Tensor, codes: Tensor, times: Tensor | None, num_queries: int, num_candidates: int
    ) -> Self:
        """Take over events that are sorted already.

        Args:
            offsets: `(num_queries + 1,)` int64.
            codes: `(events,)` integer places of candidates.
            times: `(events,)` or None.
            num_queries: how many queries there are.
            num_candidates: how many candidates there are.

        Raises:
            DataError: parts that do not fit each other.
        """
        shapes_fit = (
            offsets.dtype == torch.int64
            and offsets.shape == (num_queries + 1,)
            and codes.dim() == 1
            and codes.dtype in (torch.int32, torch.int64)
            and (times is None or times.shape == codes.shape)
        )
        ascends = (
            shapes_fit and int(offsets[0]) == 0 and int(offsets[-1]) == len(codes) and bool((offsets.diff() >= 0).all())
        )
        if not ascends:
            raise DataError("offsets, codes and times of one log", "others", "events")
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < num_candidates:
            raise DataError(f"codes in [0, {num_candidates})", f"{int(codes.min())} to {int(codes.max())}", "events")
        if times is not None and len(times):
            begins = torch.zeros(len(times) + 1, dtype=torch.bool)
            begins[offsets] = True
            if bool(((times[1:] < times[:-1]) & ~begins[1:-1]).any()):
                raise DataError("times that ascend within a query", "others", "events")
        return cls(offsets, codes.int(), times)

    @property
    def queries(self) -> Tensor:
        """`(events,)` int64, the query of each event."""
        return torch.arange(len(self.offsets) - 1).repeat_interleave(
            self.offsets.diff(), output_size=len(self.candidates)
        )

    def merge(self, later: "Segment", num_queries: int) -> "Segment":
        """Return the events of both; where times are equal, and without times, those of `later` come after."""
        queries = torch.cat([self.queries, later.queries])
        candidates = torch.cat([self.candidates, later.candidates])
        times = None if self.times is None or later.times is None else torch.cat([self.times, later.times])
        return type(self).of(queries, candidates, times, num_queries)[0]

    def holds(self, query: int) -> bool:
        """Return whether a query has events."""
        return 0 <= query < len(self.offsets) - 1 and int(self.offsets[query]) < int(self.offsets[query + 1])

    def latest(self, query: int, length: int | None) -> Tensor:
        """Return the candidates of one query, the latest last; none for -1 and for queries that came later."""
        if not 0 <= query < len(self.offsets) - 1:
            return self.candidates[:0]
        start, end = self.offsets[query : query + 2].tolist()
        return self.candidates[start if length is None else max(start, end - length) : end]

    def window(self, queries: Tensor, before: Tensor | None, length: int | None) -> tuple[Tensor, Tensor]:
        """Find the last events of queries.

        Args:
            queries: `(n,)` int64 places; -1 and queries that came later have no events.
            before: `(n,)` only events of an earlier time; None for all.
            length: at most this many; None for all.

        Returns:
            `(n,)` int64 where each window begins, and where it ends.
        """
        num_queries = len(self.offsets) - 1
        if not num_queries:
            return torch.zeros_like(queries), torch.zeros_like(queries)
        known = (queries >= 0) & (queries < num_queries)
        safe = queries.where(known, 0)
        starts = self.offsets[safe]
        ends = self.offsets[safe + 1].where(known, starts)
        if before is not None and self.times is not None:
            ends = _first_not_before(self.times, before, starts, ends)
        if length is not None:
            starts = torch.maximum(starts, ends - length)
        return starts, ends


def merged_windows(base: Segment, added: Segment, queries: Tensor, before: Tensor | None, length: int | None) -> Jagged:
    """Return the last events of queries over two segments, of which the second came later.

    Args:
        base: most of the events.
        added: few events.
        queries: `(n,)` int64 places.
        before: `(n,)` only events of an earlier time; None for all.
        length: at most this many; None for all.

    Returns:
        A `Jagged` with n rows of int64 places of candidates, the latest last.
    """
    if len(queries) == 1 and before is None and not added.holds(query := int(queries)):  # a request
        return Jagged.single(base.latest(query, length).long())
    windows = [(segment, *segment.window(queries, before, length)) for segment in (base, added)]
    if not bool((windows[1][2] > windows[1][1]).any()):
        return _gather(base.candidates, *windows[0][1:])
    parts = [_gather(segment.candidates, starts, ends) for segment, starts, ends in windows]
    rows = torch.cat([part.row_index() for part in parts])
    if base.times is not None and added.times is not None:
        # Stable sorts, by time and then by row: base and added events of equal times stay in this order.
        times = torch.cat(
            [_gather(segment.times, *bounds).values for segment, *bounds in windows if segment.times is not None]
        )
        by_time = torch.argsort(times, stable=True)
        order = by_time[torch.argsort(rows[by_time], stable=True)]
    else:
        order = torch.argsort(rows, stable=True)
    both = Jagged.from_lengths(
        torch.cat([part.values for part in parts])[order], parts[0].lengths() + parts[1].lengths()
    )
    if length is None:
        return both
    ends = both.offsets[1:]
    return _gather(both.values, torch.maximum(both.offsets[:-1], ends - length), ends)


def _gather(values: Tensor, starts: Tensor, ends: Tensor) -> Jagged:
    """Return `values[start:end]` for each pair, widened to int64 unless they are floats."""
    if len(starts) == 1:  # a request
        found = values[int(starts) : int(ends)]
        offsets = torch.tensor([0, len(found)])
    else:
        lengths = ends - starts
        offsets = torch.zeros(len(starts) + 1, dtype=torch.int64)
        torch.cumsum(lengths, dim=0, out=offsets[1:])
        total = int(offsets[-1])
        places = torch.arange(total) + (starts - offsets[:-1]).repeat_interleave(lengths, output_size=total)
        found = values[places]
    return Jagged.unchecked(found if found.is_floating_point() else found.long(), offsets)


def _first_not_before(times: Tensor, limits: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Return for each range of ascending times the first place whose time is not before the limit."""
    low, high = starts.clone(), ends.clone()
    while bool((low < high).any()):
        middle = (low + high) // 2
        is_before = (low < high) & (times[middle.clamp(max=max(len(times) - 1, 0))] < limits)
        low = torch.where(is_before, middle + 1, low)
        high = torch.where(is_before | (low >= high), high, middle)
    return low
