"""`EventLog`: who did what, and when; the one store of past events."""

from functools import cached_property
from typing import Self, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.data.checks import require_columns, require_time
from retrank.data.event_times import as_numbers, as_times, require_times, times_like
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType, as_keys, key_type
from retrank.data.segments import Segment, merged_windows
from retrank.data.sources import TableLike, frame

__all__ = ["EventLog"]

_MERGE_FROM = 1 / 8  # of all events: with fewer new ones, the old ones stay where they are


@final
class EventLog:
    """The candidates of each query in the order of time, as places among the distinct keys of the log.

    A value: `with_events` returns another log that shares what is the same. What a lookup costs depends on the events
    of the queries that are asked for, not on how many there are in all.

    Args:
        table: one row per event, in any order; among equal times, and without times, rows count in their order.
        query: the column of query keys.
        candidate: the column of candidate keys.
        time: the column of times (numbers, dates or datetimes); None if the events have none.

    Raises:
        DataError: a missing column, a null key or time, or keys or times of another type.

    Example:
        >>> import polars as pl, torch, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aaba"), "song": list("xyxz"), "time": [1, 3, 1, 2]})
        >>> log = rr.data.EventLog(plays, query="user", candidate="song", time="time")
        >>> places = torch.from_numpy(log.queries.find(pl.Series(["a", "b", "nobody"])))
        >>> [log.candidates.keys.gather(row).to_list() for row in log.latest(places, length=2).to_lists()]
        [['z', 'y'], ['x'], []]
    """

    def __init__(self, table: TableLike, *, query: str, candidate: str, time: str | None = None) -> None:
        self._read(table, query, candidate, time)

    @classmethod
    def with_last_rows(
        cls, table: TableLike, *, query: str, candidate: str, time: str | None = None
    ) -> tuple[Self, Tensor]:
        """Build a log, and find the last event of each query in the table.

        Args:
            table: one row per event, in any order.
            query: the column of query keys.
            candidate: the column of candidate keys.
            time: the column of times; None if the events have none.

        Returns:
            The log, and `(queries,)` int64 row numbers of the table.

        Raises:
            DataError: a missing column, a null key or time, or keys or times of another type.
        """
        log = cls.__new__(cls)
        return log, log._read(table, query, candidate, time)

    @classmethod
    def from_codes(
        cls,
        *,
        queries: pl.Series,
        candidates: pl.Series,
        offsets: Tensor,
        codes: Tensor,
        times: pl.Series | None,
    ) -> Self:
        """Rebuild a log from its parts; see `codes`.

        Args:
            queries: distinct keys; the name is that of the query column.
            candidates: distinct keys; the name is that of the candidate column.
            offsets: `(queries + 1,)` int64, where the events of each query begin.
            codes: `(events,)` integers, the place of each event's candidate.
            times: `(events,)` ascending within a query; None if there are none.

        Returns:
            The log.

        Raises:
            DataError: parts that do not fit each other.
        """
        self = cls.__new__(cls)
        self.query, self.candidate = queries.name, candidates.name
        self.time, self.time_type = (None, None) if times is None else (times.name, times.dtype)
        self.query_type, self.candidate_type = key_type(queries), key_type(candidates)
        self.queries = KeyIndex(as_keys(queries, None, "error"))
        self.candidates = KeyIndex(as_keys(candidates, None, "error"))
        physical = None if times is None else as_numbers(require_times(times))
        self._base = Segment.checked(offsets, codes, physical, len(queries), len(candidates))
        self._added = Segment.empty_like(self._base)
        return self

    def __len__(self) -> int:
        return len(self._base.candidates) + len(self._added.candidates)

    def __repr__(self) -> str:
        return f"EventLog({len(self):,} events of {len(self.queries):,} queries)"

    def events(self, places: Tensor) -> Jagged:
        """Return all that queries did, oldest first.

        Args:
            places: `(n,)` int64 places of queries; -1 for an unknown one.

        Returns:
            A `Jagged` with n rows of int64 places of candidates, as often as they occur.
        """
        return self._windows(places, None, None)

    def distinct(self, places: Tensor) -> Jagged:
        """Return what queries did, each candidate once.

        Args:
            places: `(n,)` int64 places of queries; -1 for an unknown one.

        Returns:
            A `Jagged` with n rows of int64 places of candidates, ascending.
        """
        events, num_candidates = self.events(places), max(len(self.candidates), 1)
        codes = torch.unique(events.row_index() * num_candidates + events.values)
        return Jagged.from_lengths(
            codes % num_candidates, torch.bincount(codes // num_candidates, minlength=len(places))
        )

    def latest(self, places: Tensor, length: int | None = None) -> Jagged:
        """Return what queries did last, as it stands now.

        Args:
            places: `(n,)` int64 places of queries; -1 for an unknown one.
            length: at most this many events, the latest; None for all.

        Returns:
            A `Jagged` with n rows of int64 places of candidates, the latest last.

        Raises:
            ConfigError: the events have no times, or the length is below 1.
        """
        self._require_times_for("latest", length)
        return self._windows(places, None, length)

    def latest_before(self, places: Tensor, times: pl.Series, length: int | None = None) -> Jagged:
        """Return what queries had done last at some time: strictly before it, hence nothing of that time itself.

        Args:
            places: `(n,)` int64 places of queries; -1 for an unknown one.
            times: `(n,)` of the type of the log's times.
            length: at most this many events, the latest; None for all.

        Returns:
            A `Jagged` with n rows of int64 places of candidates, the latest last.

        Raises:
            ConfigError: the events have no times, or the length is below 1.
            DataError: times of another type, or not one per query.
        """
        self._require_times_for("latest_before", length)
        return self._windows(places, self._times(times, len(places)), length)

    def with_events(self, table: TableLike) -> Self:
        """Append events.

        Args:
            table: one row per event, with the columns that this log was built of.

        Returns:
            A log that shares the old events, unless there are many new ones. Among equal times, new events come last.

        Raises:
            DataError: a missing column, a null key or time, or keys or times of another type.
        """
        new = self._checked(frame(table))
        if not new.height:
            return self
        expected = (self.query_type, self.candidate_type)
        pairs = zip((self.query, self.candidate), expected, strict=True)
        keys = [as_keys(new[name], kind, "error") for name, kind in pairs]
        log = type(self).__new__(type(self))
        log.__dict__.update(self.__dict__)
        (log.queries, queries), (log.candidates, candidates) = map(_with_places, self._indexes, keys)
        times = None if self.time is None else self._times(new[self.time], new.height)
        added, _ = Segment.of(queries, candidates, times, len(log.queries))
        if "num_queries_of" in self.__dict__:
            log.__dict__["num_queries_of"] = self._counts_with(added, len(log.candidates))
        log._added = self._added.merge(added, len(log.queries))
        if len(log._added.candidates) >= _MERGE_FROM * len(self._base.candidates):
            log._base, log._added = log._whole(), Segment.empty_like(self._base)
        return log

    @cached_property
    def num_queries_of(self) -> Tensor:
        """`(candidates,)` int64, how many different queries had each candidate."""
        return torch.bincount(self.pairs()[1], minlength=len(self.candidates))

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return the distinct pairs, sorted.

        Returns:
            `(pairs,)` int64 places of queries and `(pairs,)` int64 places of candidates.
        """
        whole = self._whole()
        # One number per pair, since sorting numbers is several times faster than sorting pairs.
        num_candidates = max(len(self.candidates), 1)
        code = torch.unique_consecutive((whole.queries * num_candidates + whole.candidates).sort().values)
        return code // num_candidates, code % num_candidates

    def distinct_pairs(self) -> pl.DataFrame:
        """Return the distinct pairs of query and candidate key."""
        queries, candidates = self.pairs()
        columns = ((self.query, self.queries, queries), (self.candidate, self.candidates, candidates))
        return pl.DataFrame([index.keys[places.numpy()].alias(name) for name, index, places in columns])

    def codes(self) -> tuple[Tensor, Tensor, pl.Series | None]:
        """Return the events in the form that `from_codes` reads, those of a query together and by time.

        Returns:
            `(queries + 1,)` int64 offsets, `(events,)` int32 places of candidates, and `(events,)` times or None.
        """
        whole = self._whole()
        if whole.times is None or self.time is None or self.time_type is None:
            return whole.offsets, whole.candidates, None
        return whole.offsets, whole.candidates, as_times(whole.times, self.time, self.time_type)

    def table(self) -> pl.DataFrame:
        """Return the events as a table of keys, and times if there are any, those of a query together and by time."""
        _, candidates, times = self.codes()
        columns = [
            self.queries.keys.gather(self._whole().queries.numpy()).alias(self.query),
            self.candidates.keys.gather(candidates.numpy()).alias(self.candidate),
        ]
        return pl.DataFrame(columns if times is None else [*columns, times])

    @property
    def _indexes(self) -> tuple[KeyIndex, KeyIndex]:
        return self.queries, self.candidates

    def _read(self, table: TableLike, query: str, candidate: str, time: str | None) -> Tensor:
        """Take over the events of a table; return the row of each query's last."""
        if query == candidate:
            raise ConfigError("two columns of keys", f"'{query}' for both", "EventLog")
        self.query, self.candidate, self.time = query, candidate, time
        events = self._checked(frame(table))
        keys = [as_keys(events[name], None, "error") for name in (query, candidate)]
        self.query_type: KeyType = key_type(keys[0])
        self.candidate_type: KeyType = key_type(keys[1])
        self.time_type: pl.DataType | None = None if time is None else events.schema[time]
        self.queries, self.candidates = (KeyIndex(column.unique(maintain_order=True)) for column in keys)
        self._base, order = self._segment(keys, None if time is None else as_numbers(events[time]))
        self._added = Segment.empty_like(self._base)
        return order[self._base.offsets[1:] - 1]

    def _checked(self, table: pl.DataFrame) -> pl.DataFrame:
        names = [self.query, self.candidate, *([] if self.time is None else [self.time])]
        require_columns(table, names, "history")
        if self.time is not None:
            require_time(table, self.time, "history")
        return table.select(names)

    def _times(self, times: pl.Series, count: int) -> Tensor:
        assert self.time_type is not None
        return times_like(times, self.time_type, count)

    def _require_times_for(self, what: str, length: int | None) -> None:
        if self.time is None:
            raise ConfigError(
                "events with times", "none", f"EventLog.{what}", "say which column they are in, with time="
            )
        if length is not None and length < 1:
            raise ConfigError("length >= 1", str(length), f"EventLog.{what}")

    def _segment(self, keys: list[pl.Series], times: Tensor | None) -> tuple[Segment, Tensor]:
        queries, candidates = (
            torch.from_numpy(index.find(column)) for index, column in zip(self._indexes, keys, strict=True)
        )
        return Segment.of(queries, candidates, times, len(self.queries))

    def _counts_with(self, added: Segment, num_candidates: int) -> Tensor:
        """Return `num_queries_of` after events, at a cost that depends on the queries that had them."""
        queries = torch.unique(added.queries)
        old = self.events(queries)
        before = queries[old.row_index()] * num_candidates + old.values
        now = torch.unique(added.queries * num_candidates + added.candidates)
        new = now[~torch.isin(now, before)] % num_candidates
        counts = torch.bincount(new, minlength=num_candidates)
        counts[: len(self.candidates)] += self.num_queries_of
        return counts

    def _windows(self, places: Tensor, before: Tensor | None, length: int | None) -> Jagged:
        return merged_windows(self._base, self._added, places, before, length)

    def _whole(self) -> Segment:
        if not len(self._added.candidates) and len(self._base.offsets) == len(self.queries) + 1:
            return self._base
        return self._base.merge(self._added, len(self.queries))


def _with_places(index: KeyIndex, keys: pl.Series) -> tuple[KeyIndex, Tensor]:
    """Return an index that has keys, and their places in it."""
    places = index.find(keys)
    if (places < 0).any():
        index = index.with_added(keys.filter(pl.Series(places < 0)).unique(maintain_order=True))
        places = index.find(keys)
    return index, torch.from_numpy(places)
