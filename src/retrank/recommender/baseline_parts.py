"""`BaselineParts`: what a recommender consists of that serves a baseline, where `Parts` has models."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeAlias, final

import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import pad

from retrank.baselines.baseline import Baseline
from retrank.baselines.lists import best_by_score
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.data.events import EventLog
from retrank.features.history import History
from retrank.models.pairs import Candidates
from retrank.recommender.building import event_log
from retrank.recommender.candidate_table import CandidateTable
from retrank.recommender.card import Card
from retrank.recommender.checks import require_key_columns, require_own_process
from retrank.recommender.history_queries import HistoryQueries
from retrank.recommender.parts import Parts
from retrank.recommender.popularity import PopularCandidates
from retrank.recommender.request import Key

__all__ = ["AnyParts", "BaselineParts", "build_baseline_parts", "models_of"]

_SCORES: Final = 2**22  # held at once


@final
@dataclass(frozen=True)
class BaselineParts:
    """What answers requests by a baseline.

    Args:
        baseline: what it has learned; no interactions.
        candidates: what can be recommended; those that the baseline does not know score 0.
        rows: `(columns,)` int64, for each candidate that the baseline knows its row of the catalogue, or -1.
        history: past events.
        queries: the queries that have a past.
        card: what a reader must know.
        process: the number of the process in which the parts were built.
    """

    baseline: Baseline
    candidates: CandidateTable
    rows: Tensor
    history: History
    queries: HistoryQueries
    card: Card
    process: int = field(default_factory=os.getpid, compare=False)
    ranking: None = field(default=None, init=False)

    def require_own_process(self, what: str) -> None:
        """Refuse what a forked process cannot do."""
        require_own_process(self.process, what)

    @cached_property
    def popular(self) -> PopularCandidates:
        """The candidates by popularity as it stands now; of equal ones, those first that the baseline has first."""
        rows = self.rows[self.rows >= 0]
        others = torch.ones(len(self.candidates), dtype=torch.bool)
        others[rows] = False
        return PopularCandidates(self.history.counts, torch.cat([rows, others.nonzero()[:, 0]]))

    def best(self, histories: Jagged, k: int, *, exclude: Jagged, allow: Tensor | None) -> Candidates:
        """List the candidates that score highest, the more popular of equal ones first.

        Args:
            histories: what each query has, as the baseline reads it.
            k: the length of a list, at most the number of candidates.
            exclude: rows of the catalogue that each query must not get.
            allow: `(candidates,)` bool, which rows any query may get, or `(queries, candidates)`; None allows all.

        Returns:
            The lists; missing places have row -1 and score -inf.

        Raises:
            DataError: a score is not a number.
        """
        order, places, columns = self.popular.order, *self._places_and_columns
        scores = torch.empty(len(histories), k)
        rows = torch.empty(len(histories), k, dtype=torch.int64)
        for some in torch.split(torch.arange(len(histories)), max(1, _SCORES // len(order))):
            made = self.baseline.score(histories.take(some))
            assert made is not None  # or no query is usable
            if bool(made.isnan().any()):  # of a user's own baseline
                raise DataError("scores that are numbers", "NaN", f"score of {type(self.baseline).__name__}")
            made = pad(made, (0, 1))[:, columns]
            if allow is not None:
                made.masked_fill_(~(allow if allow.dim() == 1 else allow[some])[..., order], -torch.inf)
            gone = exclude.take(some)
            scores[some], found = best_by_score(made, gone.with_values(places[gone.values]), k)
            rows[some] = order[found].where(found >= 0, -1)
        return Candidates(scores, rows)

    def candidate_ids(self, rows: Tensor) -> Tensor:
        """Return `(n,)` int64 columns of the baseline, -1 for what it does not know.

        Args:
            rows: `(n,)` int64 of the catalogue, or -1.
        """
        places, columns = self._places_and_columns
        found = columns[places[rows.clamp(min=0)]]
        return torch.where((rows >= 0) & (found < len(self.rows)), found, -1)

    def scores_of(self, histories: Jagged, rows: Tensor) -> Tensor:
        """Score some candidates.

        Args:
            histories: what queries have, as the baseline reads it; few of them.
            rows: `(n,)` int64 of the catalogue.

        Returns:
            `(queries, n)`; 0 for a candidate that the baseline does not know.
        """
        made = self.baseline.score(histories)
        if made is None:
            return torch.zeros(len(histories), len(rows))
        places, columns = self._places_and_columns
        return pad(made, (0, 1))[:, columns[places[rows]]]

    def like(self, row: int, k: int, *, exclude: Jagged, allow: Tensor | None) -> Candidates:
        """List what a query gets that has one candidate alone.

        Args:
            row: of the candidate.
            k: the length of the list.
            exclude: rows that must not be listed, one list.
            allow: `(candidates,)` bool, which rows may be listed; None allows all.

        Returns:
            One list.

        Raises:
            ConfigError: a baseline that gives everyone the same.
            DataError: a candidate that the baseline does not know.
        """
        name, column = type(self.baseline).__name__, (self.rows == row).nonzero()[:, 0]
        if not len(column):
            key = self.candidates.catalogue.keys[row]
            raise DataError(f"a candidate that {name} was fitted on", repr(key), "candidate", "fit it again")
        history = Jagged(column, torch.tensor([0, 1]), torch.ones(1))
        if self.baseline.score(history) is None:
            raise ConfigError(
                "a system that knows which candidates go together", name, "similar", "use EASE or ItemKNN"
            )
        return self.best(history, k, exclude=exclude, allow=allow)

    @cached_property
    def _places_and_columns(self) -> tuple[Tensor, Tensor]:
        """The place of each row in the order of popularity, and the baseline's column of each place."""
        order, is_candidate = self.popular.order, self.rows >= 0
        columns = torch.full((len(order),), len(self.rows))  # one that scores 0
        columns[self.rows[is_candidate]] = is_candidate.nonzero()[:, 0]
        return torch.argsort(order), columns[order]

    def with_candidates(self, table: pl.DataFrame) -> "BaselineParts":
        """Append candidates; see `Recommender.with_candidates`."""
        old = self.candidates
        added = CandidateTable.without_features(old.new_rows(table), old.column)
        catalogue = old.catalogue.with_added(added.table[old.column], added.catalogue.batch)
        return self._of_candidates(old.with_appended(added.table, catalogue))

    def with_changed_candidates(self, table: pl.DataFrame) -> "BaselineParts":
        """Give candidates other columns; see `Recommender.with_changed_candidates`."""
        new, rows = self.candidates.changed_rows(table)
        other = replace(self, candidates=self.candidates.with_rows(new, rows, self.candidates.catalogue))
        return self._shared_with(other)

    def without_candidates(self, keys: Iterable[Key]) -> "BaselineParts":
        """Remove candidates; see `Recommender.without_candidates`."""
        old = self.candidates
        kept = old.rows_without(keys)
        table = old.table[kept.numpy()]
        catalogue = CandidateTable.without_features(table, old.column).catalogue
        return self._of_candidates(old.only(kept, catalogue))

    def with_availability(self, keys: Iterable[Key], is_available: bool) -> "BaselineParts":
        """Let candidates be listed, or not; see `Recommender.with_unavailable`."""
        return self._shared_with(replace(self, candidates=self.candidates.with_availability(keys, is_available)))

    def without_ranking(self) -> "BaselineParts":
        """Return these parts, which have no ranking."""
        return self

    def with_events(self, table: pl.DataFrame) -> "BaselineParts":
        """Append events; see `Recommender.with_events`."""
        history = self.history.with_events(table)
        return replace(self, history=history, queries=self.queries.with_events(history.events))

    def _shared_with(self, other: "BaselineParts") -> "BaselineParts":
        """Give others, of the same candidates and events, what was made here once."""
        for name in ("popular", "_places_and_columns"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def _of_candidates(self, candidates: CandidateTable) -> "BaselineParts":
        catalogue = candidates.catalogue
        rows, history = catalogue.rows(self.baseline.candidates), self.history.with_catalogue(catalogue)
        return replace(self, candidates=candidates, rows=rows, history=history)


AnyParts: TypeAlias = Parts | BaselineParts
"""What answers requests, of models or of a baseline."""


def models_of(parts: AnyParts, what: str) -> Parts:
    """Return the parts of a recommender of models.

    Args:
        parts: of any recommender.
        what: is asked for.

    Raises:
        ConfigError: it serves a baseline.
    """
    if isinstance(parts, BaselineParts):
        raise ConfigError("a recommender of models", f"one of the baseline {type(parts.baseline).__name__}", what)
    return parts


def build_baseline_parts(
    baseline: Baseline,
    candidates: pl.DataFrame,
    history: pl.DataFrame | EventLog,
    *,
    time: str | None,
    card: Card,
) -> BaselineParts:
    """Build what answers requests by a baseline; see `Recommender`, which says what is refused.

    Args:
        baseline: what it has learned, without its interactions.
        candidates: the table of candidates.
        history: past events, as a table or a log.
        time: the column of times in the table of events.
        card: what a reader must know.

    Raises:
        ConfigError: a baseline with a decay, and events without times.
        DataError: a table lacks a column, or has keys of another type than the baseline.
    """
    query, keys = baseline.query, baseline.candidates
    require_key_columns(query, keys.name)
    table = CandidateTable.without_features(candidates, keys.name)
    events = history if isinstance(history, EventLog) else event_log(history, query, keys.name, time)[0]
    if (events.query, events.candidate) != (query, keys.name):
        expected = f"events of the columns '{query}' and '{keys.name}'"
        raise DataError(expected, f"'{events.query}' and '{events.candidate}'", "history")
    if baseline.decay > 0 and events.time is None:
        what, fix = "a history with times, to know what is recent", "name the column of times, with time="
        raise ConfigError(what, "one without", f"decay of {type(baseline).__name__}", fix)
    past = History.of(events, table.catalogue)
    if not isinstance(history, EventLog):
        past.warn_of_others()
    queries = HistoryQueries(events, baseline)
    return BaselineParts(baseline, table, table.catalogue.rows(keys), past, queries, card)
