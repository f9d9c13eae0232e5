"""`HistoryQueries`: what a baseline needs to know of a query, which is its past."""

import copy
from typing import Final, Self, cast, final

import polars as pl
import torch
from torch import Tensor

from retrank.baselines.baseline import Baseline
from retrank.baselines.histories import weighted_histories
from retrank.core.batch import Batch
from retrank.core.jagged import Jagged
from retrank.data.events import EventLog
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.transformed import replace_rows

__all__ = ["HISTORY", "HistoryQueries"]

HISTORY: Final = "history"
"""The column of a batch that holds what queries have, as a baseline reads it."""


@final
class HistoryQueries:
    """The queries of a log of events, a value; they have no features beside their past.

    Args:
        events: past events.
        baseline: the fitted baseline that scores them.

    Raises:
        DataError: the candidate keys of the log are of another type than those of the baseline.
    """

    def __init__(self, events: EventLog, baseline: Baseline) -> None:
        keys = baseline.candidates
        columns = Catalogue(keys, Batch({"column": torch.arange(len(keys))}), keys.name)
        self._past = History.of(events, columns)
        self._columns, self._num_columns, self._decay = columns, len(columns), baseline.decay
        nothing = Jagged(torch.zeros(0).long(), torch.zeros(2).long(), torch.zeros(0))
        self._is_personal = baseline.score(nothing) is not None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def query(self) -> str:
        """The column of query keys."""
        return self._past.events.query

    @property
    def key_type(self) -> KeyType:
        """The type of query keys."""
        return self._past.events.query_type

    @property
    def index(self) -> KeyIndex:
        """The places of the known queries."""
        return self._past.events.queries

    @property
    def column_types(self) -> dict[str, pl.DataType]:
        """The type of each feature column that a query may bring: none."""
        return {}

    @property
    def list_columns(self) -> list[str]:
        """The columns with lists of candidates that belong to a query: none."""
        return []

    @property
    def reads_histories(self) -> bool:
        """True: nothing else is read of a query."""
        return True

    @property
    def reads_in_order_of_log(self) -> bool:
        """False: what a query has is read in the order of the baseline's candidates."""
        return False

    def history_ids(self, keys: pl.Series) -> tuple[Tensor, Tensor]:
        """Look up candidates of histories that queries bring.

        Args:
            keys: `(n,)` of candidates.

        Returns:
            `(n,)` int64 columns of the baseline, -1 for others, and `(n,)` bool, which it knows.
        """
        columns = self._columns.rows(keys)
        return columns, columns >= 0

    @property
    def stored_table(self) -> pl.DataFrame:
        """The keys of known queries."""
        return self.index.keys.alias(self.query).to_frame()

    @property
    def table(self) -> pl.DataFrame:
        """The keys of known queries."""
        return self.stored_table

    def with_events(self, events: EventLog) -> Self:
        """Return the same with a log that has more events than the one before."""
        other = copy.copy(self)
        other._past = self._past.with_log(events)
        return other

    def read(self, asked: AskedQueries) -> tuple[Batch, Tensor]:
        """Collect what queries have, weighted by how much they have done since.

        Args:
            asked: the queries.

        Returns:
            The histories, and `(n,)` bool, which queries have something that the baseline knows.
        """
        lists = self._past.rows_of(self._past.events.events(asked.events))
        if asked.histories is not None:
            rows = asked.histories.is_brought.nonzero()[:, 0]
            brought = asked.histories.all_ids().take(rows)
            owners, is_known = brought.row_index(), brought.values >= 0
            known = Jagged.group(owners[is_known], brought.values[is_known], len(rows))
            lists = cast("Jagged", replace_rows(lists, known, rows))
        return Batch({HISTORY: weighted_histories(lists, self._num_columns, self._decay)}), lists.lengths() > 0

    def require_whole(self, asked: AskedQueries) -> None:
        """Have nothing to ask for: queries bring no features.

        Args:
            asked: the queries.
        """

    def usable(self, asked: AskedQueries) -> Tensor:
        """Return `(n,)` bool, which queries have a past, if the baseline scores by it at all."""
        has_past = asked.events >= 0
        if asked.histories is not None:
            has_past = has_past | asked.histories.is_brought
        return has_past & self._is_personal
