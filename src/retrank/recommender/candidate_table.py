"""`CandidateTable`: what can be recommended, what describes it, and what of it is available."""

import copy
from collections.abc import Iterable
from typing import final

import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import DataError
from retrank.data.checks import require_columns, require_rows
from retrank.data.keys import as_keys
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.recommender.checks import require_free_names
from retrank.recommender.column_members import ColumnMembers
from retrank.recommender.request import Key
from retrank.recommender.rules import AllowLists, Conditions, rows_of_keys

__all__ = ["CandidateTable"]


@final
class CandidateTable:
    """The candidates: their keys and features, and the columns that describe them. A value.

    Args:
        table: one row per candidate, with its key column.
        column: the key column.
        catalogue: the same candidates, transformed.
        available: `(candidates,)` bool, which may be listed; None for all.
    """

    def __init__(self, table: pl.DataFrame, column: str, catalogue: Catalogue, available: Tensor | None = None) -> None:
        self.table, self.column, self.catalogue = table, column, catalogue
        self.available = None if available is None or bool(available.all()) else available
        self.conditions, self.allow_lists = Conditions(table, self.available), AllowLists(catalogue)
        self.members = ColumnMembers(table)

    @classmethod
    def of(cls, table: pl.DataFrame, space: FeatureSpace, candidate_id: str) -> "CandidateTable":
        """Transform a table of candidates.

        Raises:
            DataError: no rows, a missing column, a bad key, or a column of a name that lists have already.
        """
        column = space.columns([candidate_id])[0]
        table = _with_keys(table, column)
        return cls(table, column, space.catalogue(table, key=candidate_id))

    @classmethod
    def without_features(cls, table: pl.DataFrame, column: str) -> "CandidateTable":
        """Take a table of candidates of which nothing is transformed.

        Args:
            table: one row per candidate.
            column: the key column.

        Raises:
            DataError: no rows, a missing column, a bad key, or a column of a name that lists have already.
        """
        table = _with_keys(table, column)
        return cls(table, column, Catalogue(table[column], Batch({"row": torch.arange(table.height)}), column))

    def __len__(self) -> int:
        return self.table.height

    @property
    def unavailable(self) -> pl.Series:
        """The keys of those that may not be listed."""
        keys = self.table[self.column]
        return keys.clear() if self.available is None else keys.filter(pl.Series((~self.available).numpy()))

    def is_available(self, key: Key) -> bool:
        """Tell whether a key is that of a candidate that may be listed."""
        row = int(self.catalogue.rows([key])[0])
        return row >= 0 and (self.available is None or bool(self.available[row]))

    def new_rows(self, table: pl.DataFrame, of: str = "new candidates") -> pl.DataFrame:
        """Return rows to append.

        Args:
            table: with the columns of this one.
            of: what they are called in messages.

        Raises:
            DataError: a column is missing or of another type.
        """
        require_columns(table, self.table.columns, of)
        new = table.select(self.table.columns)
        if new.schema != self.table.schema:
            expected = f"columns of types {dict(self.table.schema)}"
            raise DataError(expected, str(dict(new.schema)), of, "cast them")
        return new

    def changed_rows(self, table: pl.DataFrame) -> tuple[pl.DataFrame, Tensor]:
        """Return rows that take the place of others.

        Args:
            table: with the columns of this one, of candidates that are known.

        Returns:
            The rows, and `(n,)` int64 where they go.

        Raises:
            DataError: a column is missing or of another type, or a key is null, unknown or there twice.
        """
        of = "changed candidates"
        new = self.new_rows(table, of)
        keys = as_keys(new[self.column], self.catalogue.key_type, "error")
        rows = self.catalogue.rows(keys)
        if bool((rows < 0).any()):
            place = int((rows < 0).nonzero()[0])
            fix = "append new candidates, by with_candidates"
            raise DataError(
                "keys of candidates", repr(keys[place]), f"column '{self.column}'", fix, row=place, table=of
            )
        if keys.n_unique() < len(keys):
            place = int(keys.is_first_distinct().not_().arg_max() or 0)
            where = f"column '{self.column}'"
            raise DataError("distinct keys", f"{keys[place]!r} again", where, row=place, table=of)
        return new.with_columns(keys), rows

    def with_rows(self, new: pl.DataFrame, rows: Tensor, catalogue: Catalogue) -> "CandidateTable":
        """Return a table in which rows took the place of others.

        Args:
            new: what `changed_rows` returned.
            rows: where they go.
            catalogue: the candidates with their features.
        """
        order = torch.arange(len(self))
        order[rows] = len(self) + torch.arange(len(rows))
        table = pl.concat([self.table, new])[order.numpy()]
        return CandidateTable(table, self.column, catalogue, self.available)

    def with_appended(self, new: pl.DataFrame, catalogue: Catalogue) -> "CandidateTable":
        """Return a table with more candidates, which are available.

        Args:
            new: what `new_rows` returned.
            catalogue: all candidates.
        """
        available = self.available
        if available is not None:
            available = torch.cat([available, torch.ones(len(new), dtype=torch.bool)])
        return CandidateTable(pl.concat([self.table, new]), self.column, catalogue, available)

    def only(self, rows: Tensor, catalogue: Catalogue) -> "CandidateTable":
        """Return a table of some of the candidates.

        Args:
            rows: what `rows_without` returned.
            catalogue: these candidates.
        """
        available = None if self.available is None else self.available[rows]
        return CandidateTable(self.table[rows.numpy()], self.column, catalogue, available)

    def with_availability(self, keys: Iterable[Key], is_available: bool) -> "CandidateTable":
        """Return the same candidates, of which some may be listed from now on, or may not. Only a mask is copied.

        Args:
            keys: of those that change.
            is_available: what they become.

        Raises:
            DataError: a key that is no candidate's, or of another type.
        """
        rows = self._rows_of(list(keys), "with_available" if is_available else "with_unavailable")
        if not len(rows):
            return self
        available = torch.ones(len(self), dtype=torch.bool) if self.available is None else self.available.clone()
        available[rows] = is_available
        other = copy.copy(self)
        other.available = None if bool(available.all()) else available
        other.conditions = self.conditions.within(other.available)
        return other

    def rows_without(self, keys: Iterable[Key]) -> Tensor:
        """Return the rows that are left when candidates go.

        Args:
            keys: of those that go.

        Returns:
            Ascending int64 rows.

        Raises:
            DataError: a key that is no candidate's, or none would be left.
        """
        rows = self._rows_of(list(keys), "without_candidates")
        is_kept = torch.ones(len(self), dtype=torch.bool)
        is_kept[rows] = False
        kept = is_kept.nonzero()[:, 0]
        require_rows(self.table.head(len(kept)), "the candidates that are left")
        return kept

    def _rows_of(self, keys: list[Key], where: str) -> Tensor:
        rows = rows_of_keys(self.catalogue, keys)
        if len(rows) < len(set(keys)):
            unknown = next(key for key in keys if int(self.catalogue.rows([key])[0]) < 0)
            raise DataError("keys of candidates", repr(unknown), where)
        return rows


def _with_keys(table: pl.DataFrame, column: str) -> pl.DataFrame:
    require_columns(table, [column], "catalogue")
    require_rows(table, "catalogue")
    require_free_names(table)
    return table.with_columns(as_keys(table[column], None, "error"))
