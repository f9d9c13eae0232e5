"""`History`: who interacted with what, as rows of a catalogue."""

from functools import cached_property
from typing import Any, Self, final

import numpy.typing as npt
import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.notices import warn_once
from retrank.data.events import EventLog
from retrank.data.keys import as_keys
from retrank.data.sources import TableLike
from retrank.features.catalogue import Catalogue, Keys, to_array, to_series

__all__ = ["History"]


@final
class History:
    """The past events of each query as catalogue rows: what to exclude, and how popular candidates are.

    A value: `with_events` and `with_catalogue` return another history that shares what is the same. Events with
    candidates that the catalogue does not hold are left out of all results; a new history warns of them.

    Args:
        table: one row per event, in any order.
        catalogue: the candidates.
        query: the column of query keys.
        candidate: the column of candidate keys; the catalogue's key by default.
        time: the column of times; None if the events have none.

    Raises:
        DataError: a missing column, a null key, or keys of another type than the catalogue's.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"film": ["Heat", "Big", "Jaws"]})
        >>> catalogue = rr.FeatureSpace({"film": rr.features.Categorical()}).fit(films).catalogue(films, key="film")
        >>> views = pl.DataFrame({"user": ["a", "b", "a"], "film": ["Jaws", "Jaws", "Heat"]})
        >>> history = rr.features.History(views, catalogue, query="user")
        >>> history[["a", "nobody"]].to_lists(), history.counts.tolist()
        ([[0, 2], []], [1, 0, 2])
    """

    def __init__(
        self,
        table: TableLike,
        catalogue: Catalogue,
        *,
        query: str,
        candidate: str | None = None,
        time: str | None = None,
    ) -> None:
        candidate = catalogue.key if candidate is None else candidate
        self._bind(EventLog(table, query=query, candidate=candidate, time=time), catalogue)
        self.warn_of_others()

    @classmethod
    def of(cls, events: EventLog, catalogue: Catalogue) -> Self:
        """Read a log of events as rows of a catalogue.

        Args:
            events: the log.
            catalogue: the candidates.

        Returns:
            A history that shares the log.

        Raises:
            DataError: the log's candidate keys are of another type than the catalogue's.
        """
        history = cls.__new__(cls)
        history._bind(events, catalogue)
        return history

    def __len__(self) -> int:
        return len(self.events.queries)

    def __repr__(self) -> str:
        return f"History({len(self):,} queries, {len(self.matrix()[0]):,} distinct interactions)"

    def __getitem__(self, keys: Keys) -> Jagged:
        """Return the catalogue rows of each query, ascending.

        Args:
            keys: `(n,)` raw query keys; unknown ones are fine.

        Returns:
            A `Jagged` with n rows of distinct int64 catalogue rows, empty for unknown queries.

        Raises:
            DataError: keys of another type.
        """
        series = as_keys(to_series(keys, self.events.query), self.events.query_type, "unknown")
        rows = self.rows_of(self.events.events(torch.from_numpy(self.events.queries.find(series))))
        codes = torch.unique(rows.row_index() * self._num_candidates + rows.values)
        lengths = torch.bincount(codes // max(self._num_candidates, 1), minlength=len(rows))
        return Jagged.from_lengths(codes % max(self._num_candidates, 1), lengths)

    @property
    def queries(self) -> npt.NDArray[Any]:
        """`(queries,)` the distinct raw query keys, in order of appearance."""
        return to_array(self.events.queries.keys)

    @cached_property
    def counts(self) -> Tensor:
        """`(candidates,)` int64, the number of different queries of each catalogue row."""
        counts = torch.zeros(self._num_candidates, dtype=torch.int64)
        here = self._rows >= 0
        counts[self._rows[here]] = self.events.num_queries_of[here]
        return counts

    def rows_of(self, candidates: Jagged) -> Jagged:
        """Turn places of the log's candidates into catalogue rows; those that the catalogue does not hold fall out.

        Args:
            candidates: what the log's `events` or `latest` returned.

        Returns:
            As many rows of int64 catalogue rows, in the same order.
        """
        rows = self._rows[candidates.values]
        if self._holds_all:
            return Jagged.unchecked(rows, candidates.offsets)
        here = rows >= 0
        kept = torch.zeros(len(rows) + 1, dtype=torch.int64)
        torch.cumsum(here, dim=0, out=kept[1:])
        return Jagged.unchecked(rows[here], kept[candidates.offsets])

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Return the interactions as coordinates.

        Returns:
            `(pairs,)` int64 places in `queries` and `(pairs,)` int64 catalogue rows, sorted, each pair once.
        """
        queries, candidates = self.events.pairs()
        rows = self._rows[candidates]
        here = rows >= 0
        codes = (queries[here] * self._num_candidates + rows[here]).sort().values
        return codes // max(self._num_candidates, 1), codes % max(self._num_candidates, 1)

    def with_events(self, table: TableLike) -> Self:
        """Append events.

        Args:
            table: one row per event, with the columns of the others.

        Returns:
            A history that shares the old events, unless there are many new ones.

        Raises:
            DataError: a missing column, a null key or time, or keys or times of another type.
        """
        return self.with_log(self.events.with_events(table))

    def with_log(self, events: EventLog) -> Self:
        """Return the history of a log that has events beside those of this one.

        Args:
            events: what `events.with_events` returned.

        Returns:
            A history of the same candidates.
        """
        added = self._catalogue.rows(events.candidates.keys_from(len(self.events.candidates)))
        history = type(self).__new__(type(self))
        history._bind(events, self._catalogue, torch.cat([self._rows, added]))
        return history

    def with_catalogue(self, catalogue: Catalogue) -> Self:
        """Return the same events for other candidates.

        Args:
            catalogue: the candidates.

        Returns:
            A history that shares the events.
        """
        if not catalogue.has_rows_of(self._catalogue):
            return self.of(self.events, catalogue)
        history = type(self).__new__(type(self))
        history._bind(self.events, catalogue, self._rows)
        return history

    def warn_of_others(self) -> None:
        """Warn of events with candidates that the catalogue does not hold, if there are any."""
        if not self._holds_all:
            codes = self.events.codes()[1]
            message = (
                f"{int((self._rows < 0)[codes].sum())} of {len(codes)} interactions are with candidates that the "
                "catalogue does not hold; they are left out"
            )
            warn_once(f"column '{self.events.candidate}': {message}")

    def _bind(self, events: EventLog, catalogue: Catalogue, rows: Tensor | None = None) -> None:
        self.events, self._catalogue, self._num_candidates = events, catalogue, len(catalogue)
        self._rows = catalogue.rows(events.candidates.keys) if rows is None else rows  # of the log's candidates
        self._holds_all = bool((self._rows >= 0).all())
