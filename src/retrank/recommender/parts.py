"""`Parts`: what a recommender consists of, and what changes of it give; see `building` for how it comes to be."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.data.checks import require_columns, require_rows
from retrank.data.keys import as_keys
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.pairs import Candidates
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.card import Card
from retrank.recommender.checks import require_free_names, require_own_process
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.popularity import PopularCandidates
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.request import Key
from retrank.recommender.rules import AllowLists, Conditions, rows_of_keys
from retrank.recommender.stages import ListScorer, QueryEncoder, list_scorer, query_encoder
from retrank.training.model import Model

__all__ = ["CandidateTable", "Parts"]


@final
class CandidateTable:
    """The candidates: their keys and features, and the columns that describe them.

    Args:
        table: one row per candidate, with its key column.
        column: the key column.
        catalogue: the same candidates, transformed.
    """

    def __init__(self, table: pl.DataFrame, column: str, catalogue: Catalogue) -> None:
        self.table, self.column, self.catalogue = table, column, catalogue
        self.conditions, self.allow_lists = Conditions(table), AllowLists(catalogue)

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

    def new_rows(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return rows to append.

        Args:
            table: with the columns of this one.

        Raises:
            DataError: a column is missing or of another type.
        """
        require_columns(table, self.table.columns, "new candidates")
        new = table.select(self.table.columns)
        if new.schema != self.table.schema:
            expected = f"columns of types {dict(self.table.schema)}"
            raise DataError(expected, str(dict(new.schema)), "new candidates", "cast them")
        return new

    def rows_without(self, keys: Iterable[Key]) -> torch.Tensor:
        """Return the rows that are left when candidates go.

        Args:
            keys: of those that go.

        Returns:
            Ascending int64 rows.

        Raises:
            DataError: a key that is no candidate's, or none would be left.
        """
        gone = list(keys)
        rows = rows_of_keys(self.catalogue, gone)
        if len(rows) < len(set(gone)):
            unknown = next(key for key in gone if int(self.catalogue.rows([key])[0]) < 0)
            raise DataError("keys of candidates", repr(unknown), "without_candidates")
        is_kept = torch.ones(len(self), dtype=torch.bool)
        is_kept[rows] = False
        kept = is_kept.nonzero()[:, 0]
        require_rows(self.table.head(len(kept)), "the candidates that are left")
        return kept

    def __len__(self) -> int:
        return self.table.height


@final
@dataclass(frozen=True)
class Parts:
    """What answers requests.

    Args:
        space: the frozen feature space.
        retrieval: embeds queries and candidates.
        ranking: orders what was retrieved, or None.
        candidates: what can be recommended.
        history: past events.
        queries: the features of known queries.
        index: the candidates' embeddings; its rows are those of the catalogue.
        num_retrieved: how many candidates are retrieved for ranking.
        card: what a reader must know.
        process: the number of the process in which the parts were built.
    """

    space: FeatureSpace
    retrieval: FrozenModel[RetrievalModel]
    ranking: FrozenModel[Model] | None
    candidates: CandidateTable
    history: History
    queries: QueryFeatures
    index: Index
    num_retrieved: int
    card: Card
    process: int = field(default_factory=os.getpid, compare=False)
    baseline: None = field(default=None, init=False)

    def require_own_process(self, what: str) -> None:
        """Refuse what a forked process cannot do."""
        require_own_process(self.process, what)

    @cached_property
    def popular(self) -> PopularCandidates:
        """The candidates by popularity."""
        return PopularCandidates(self.history.counts)

    @cached_property
    def similar(self) -> Exact:
        """The candidates' embeddings scaled to length 1, whose dot products are cosines."""
        catalogue = self.candidates.catalogue
        embeddings = self.retrieval.model.embed_candidates(catalogue.batch).cpu()
        return Exact(torch.nn.functional.normalize(embeddings, dim=1), catalogue.keys)

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """Embeds queries by the retrieval model."""
        return query_encoder(self.retrieval)

    @cached_property
    def list_scorer(self) -> ListScorer | None:
        """Scores lists by the ranking model; None without one."""
        return None if self.ranking is None else list_scorer(self.ranking, self.candidates.catalogue.batch)

    def like(self, histories: Jagged, k: int, *, exclude: Jagged, allow: Tensor | None) -> Candidates:
        """List the candidates whose embeddings are most like those of some candidates together.

        Args:
            histories: rows of the catalogue, at least one a list; repeats count once.
            k: the length of a list.
            exclude: rows that each list must not have.
            allow: `(candidates,)` bool, which rows may be listed; None allows all.

        Returns:
            The lists, by the sum of the cosines with what is in a history.
        """
        # one by one, so that a sum does not depend on what else is asked
        pasts = [
            torch.unique(histories.values[first:last]) for first, last in histories.offsets.unfold(0, 2, 1).tolist()
        ]
        together = torch.stack([self.similar.embeddings(rows).sum(dim=0) for rows in pasts])
        return Candidates(*self.similar.search_rows(together, k, exclude=exclude, allow=allow))

    def with_candidates(self, table: pl.DataFrame) -> "Parts":
        """Append candidates; see `Recommender.with_candidates`."""
        old = self.candidates
        added = CandidateTable.of(old.new_rows(table), self.space, self.retrieval.model.candidate_id)
        both = pl.concat([old.table, added.table])
        batch = Batch.concat([old.catalogue.batch, added.catalogue.batch])
        catalogue = Catalogue(both[old.column], batch, old.catalogue.key)
        embeddings = self.retrieval.model.embed_candidates(added.catalogue.batch).cpu()
        return replace(
            self,
            candidates=CandidateTable(both, old.column, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.with_added(embeddings, added.catalogue.keys),
        )

    def without_candidates(self, keys: Iterable[Key]) -> "Parts":
        """Remove candidates; see `Recommender.without_candidates`."""
        old, gone = self.candidates, list(keys)
        kept = old.rows_without(gone)
        if not gone:
            return self
        table = old.table[kept.numpy()]
        catalogue = Catalogue(table[old.column], old.catalogue.batch.take(kept), old.catalogue.key)
        return replace(
            self,
            candidates=CandidateTable(table, old.column, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.without(np.delete(np.asarray(old.catalogue.keys), kept.numpy())),
        )

    def with_events(self, table: pl.DataFrame) -> "Parts":
        """Append events; see `Recommender.with_events`."""
        history = self.history.with_events(table)
        return replace(self, history=history, queries=self.queries.with_events(history.events))


def _with_keys(table: pl.DataFrame, column: str) -> pl.DataFrame:
    require_columns(table, [column], "catalogue")
    require_rows(table, "catalogue")
    require_free_names(table)
    return table.with_columns(as_keys(table[column], None, "error"))
