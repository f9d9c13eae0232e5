"""Who interacted with what, as a sparse matrix with keys on both sides."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import polars as pl
import torch
from torch import Tensor

from retrank.baselines.blocks import ranges_of_cost
from retrank.baselines.histories import weighted_histories
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.data.checks import require_keys, require_rows, require_time
from retrank.data.key_index import KeyIndex
from retrank.data.keys import as_keys, key_type
from retrank.data.sources import TableLike, frame

__all__ = ["InteractionMatrix", "int64", "query_and_candidate"]

_MEETINGS: Final = 2**20  # of pairs of candidates, counted at once


def query_and_candidate(table: pl.DataFrame, query: str | None, candidate: str | None) -> tuple[str, str]:
    """Name the key columns of an interaction table.

    Args:
        table: the interactions.
        query: the column of query keys; the first column by default.
        candidate: the column of candidate keys; the second column by default.

    Returns:
        The two names.

    Raises:
        ConfigError: the table has fewer than two columns, or both names are the same.
        DataError: a named column is missing, holds nulls or something else than text or integers.

    Example:
        >>> import polars as pl
        >>> from retrank.baselines.interactions import query_and_candidate
        >>> query_and_candidate(pl.DataFrame({"user": ["a"], "song": ["x"]}), None, None)
        ('user', 'song')
    """
    if table.width < 2:
        raise ConfigError("a query and a candidate column", str(table.columns), "interactions")
    names = query or table.columns[0], candidate or table.columns[1]
    if names[0] == names[1]:
        raise ConfigError("two different columns", f"'{names[0]}' twice", "interactions", "name query= and candidate=")
    for name in names:
        require_keys(table, name, "interactions")
    return names


@final
@dataclass(frozen=True)
class InteractionMatrix:
    """Distinct (query, candidate) pairs as rows and columns of a binary matrix.

    Columns are in descending popularity, equal counts in the order of their keys, so that the order of columns breaks
    ties sensibly for every baseline, and not by the order of the table.

    Args:
        query: name of the query key column.
        candidate: name of the candidate key column.
        queries: query keys, one per row of the matrix, of the type that the table has.
        candidates: candidate keys, one per column, of the type that the table has.
        counts: `(columns,)` int64, distinct queries of each candidate.
        seen: the columns of each row, oldest first if the times are known, else in the order of the table.

    Example:
        >>> import polars as pl, retrank as rr
        >>> table = pl.DataFrame({"user": ["a", "a", "b"], "song": ["x", "y", "y"]})
        >>> matrix = rr.baselines.InteractionMatrix.build(table)
        >>> matrix.candidates.to_list(), matrix.seen.to_lists()
        (['y', 'x'], [[1, 0], [0]])
    """

    query: str
    candidate: str
    queries: pl.Series
    candidates: pl.Series
    counts: Tensor
    seen: Jagged

    @classmethod
    def build(
        cls, table: TableLike, query: str | None = None, candidate: str | None = None, time: str | None = None
    ) -> "InteractionMatrix":
        """Build from an interaction table.

        Args:
            table: one row per interaction; repeats count once.
            query: the column of query keys; the first by default.
            candidate: the column of candidate keys; the second by default.
            time: the column of times; None takes the rows as they come. Of repeats, the last counts.

        Returns:
            The matrix.

        Raises:
            DataError: a column is missing or holds nulls, or there are no rows.
        """
        interactions = frame(table)
        require_rows(interactions, "interactions")
        query, candidate = query_and_candidate(interactions, query, candidate)
        if time is not None:
            require_time(interactions, time)
            interactions = interactions.sort(time, maintain_order=True)
        kinds = interactions.schema
        pairs = pl.DataFrame([as_keys(interactions[name], None, "error") for name in (query, candidate)])
        pairs = pairs.unique(keep="last", maintain_order=True)
        count = f"{candidate} count"  # whatever the key columns are called
        counts = pairs.group_by(candidate).len(count).sort(count, candidate, descending=[True, False])
        queries, candidates = KeyIndex(pairs[query].unique(maintain_order=True)), KeyIndex(counts[candidate])
        row, column = (torch.from_numpy(index.find(pairs[index.keys.name])) for index in (queries, candidates))
        return cls(
            query,
            candidate,
            queries.keys.cast(kinds[query]),
            candidates.keys.cast(kinds[candidate]),
            int64(counts[count]),
            Jagged.group(row, column, num_rows=len(queries)),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (queries) and columns (candidates)."""
        return len(self.queries), len(self.candidates)

    def rows(self, keys: pl.Series) -> Tensor:
        """Return `(n,)` int64, the row of each query key, -1 where it is unknown.

        Args:
            keys: of the type of `queries`; integers may be wider or narrower.

        Raises:
            DataError: keys of another type.
        """
        asked = as_keys(keys.alias(self.query), key_type(self.queries), "unknown")
        return torch.from_numpy(self._index.find(asked))

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(as_keys(self.queries, None, "error"))

    @cached_property
    def owners(self) -> Jagged:
        """The rows that have each column, in ascending order."""
        return Jagged.group(self.seen.values, self.seen.row_index(), len(self.candidates))

    @cached_property
    def num_meetings(self) -> Tensor:
        """`(columns,)` int64: for each column, the lengths of the rows that have it, added up."""
        owners = self.owners
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), self.seen.lengths()[owners.values].cumsum(dim=0)])
        return ends[owners.offsets].diff()

    def co_occurrences(self, first: int = 0, last: int | None = None) -> Jagged:
        """Count how many queries have two candidates both, for some columns and all others.

        Args:
            first: the first of the columns.
            last: the one after the last of them; None for all that follow.

        Returns:
            A row for each of the columns: the columns that it occurs together with, itself included, in ascending
            order, and the counts as float64 weights.

        Example:
            >>> import polars as pl, retrank as rr
            >>> table = pl.DataFrame({"user": ["a", "a", "b"], "song": ["x", "y", "y"]})
            >>> pairs = rr.baselines.InteractionMatrix.build(table).co_occurrences()
            >>> pairs.to_lists(), pairs.weights.tolist()
            ([[0, 1], [0, 1]], [2.0, 1.0, 1.0, 1.0])
        """
        last = len(self.candidates) if last is None else last
        parts = [
            self._pairs(first + start, first + stop)
            for start, stop in ranges_of_cost(self.num_meetings[first:last], _MEETINGS)
        ]
        return Jagged.concat(parts)

    def _pairs(self, first: int, last: int) -> Jagged:
        owners = self.owners[first:last]
        lists = self.seen.take(owners.values)
        numbers = owners.row_index()[lists.row_index()] * len(self.candidates) + lists.values
        numbers, counts = torch.unique(numbers, return_counts=True)
        lengths = torch.bincount(numbers // len(self.candidates), minlength=last - first)
        return Jagged.from_lengths(numbers % len(self.candidates), lengths, counts.double())

    def histories(self, rows: Tensor, decay: float = 0.0) -> Jagged:
        """Return the histories of some rows.

        Args:
            rows: `(n,)` int64; unknown rows (-1) are empty.
            decay: the weight of a candidate with m later ones in its row is `exp(-decay * m)`.

        Returns:
            The columns of each row, ascending, and their float32 weights.
        """
        known = rows >= 0
        lengths = torch.zeros_like(rows)
        seen = self.seen.take(rows[known])
        lengths[known] = seen.lengths()
        return weighted_histories(Jagged.from_lengths(seen.values, lengths), len(self.candidates), decay)


def int64(series: pl.Series) -> Tensor:
    """Return integers as an int64 tensor of their own.

    Args:
        series: integers without nulls.
    """
    return torch.from_numpy(series.cast(pl.Int64).to_numpy(writable=True))
