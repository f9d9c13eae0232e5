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
from retrank.core.jagged import Jagged
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.pairs import Candidates
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.candidate_table import CandidateTable
from retrank.recommender.card import Card
from retrank.recommender.checks import require_own_process
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.popularity import PopularCandidates
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.request import Key
from retrank.recommender.rules import as_allowed
from retrank.recommender.stages import ListScorer, QueryEncoder, list_scorer, query_encoder
from retrank.recommender.transformed import replace_rows
from retrank.training.model import Model

__all__ = ["Parts"]


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
        return Exact(_scaled(embeddings), catalogue.keys)

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """Embeds queries by the retrieval model."""
        return query_encoder(self.retrieval)

    @cached_property
    def list_scorer(self) -> ListScorer | None:
        """Scores lists by the ranking model; None without one."""
        return None if self.ranking is None else list_scorer(self.ranking, self.candidates.catalogue.batch)

    def candidate_ids(self, rows: Tensor) -> Tensor:
        """Return `(n,)` int64 ids of candidates in their vocabulary, 0 for row -1, if a query's lists are read by them.

        Args:
            rows: `(n,)` int64 of the catalogue, or -1.
        """
        if not self.queries.list_columns:
            return torch.zeros_like(rows)
        ids: Tensor = self.candidates.catalogue.batch[self.retrieval.model.candidate_id]
        return torch.where(rows >= 0, ids[rows.clamp(min=0)], 0)

    def like(self, histories: Jagged, k: int, *, exclude: Jagged, allow: Tensor | None) -> Candidates:
        """List the candidates whose embeddings are most like those of some candidates together.

        Args:
            histories: rows of the catalogue, at least one a list; repeats count once.
            k: the length of a list.
            exclude: rows that each list must not have.
            allow: `(candidates,)` bool, which rows may be listed, or `(lists, candidates)`; None allows all.

        Returns:
            The lists, by the sum of the cosines with what is in a history.
        """
        # one by one, so that a sum does not depend on what else is asked
        pasts = [
            torch.unique(histories.values[first:last]) for first, last in histories.offsets.unfold(0, 2, 1).tolist()
        ]
        together = torch.stack([self.similar.embeddings(rows).sum(dim=0) for rows in pasts])
        return Candidates(*self.similar.search_rows(together, k, exclude=exclude, allow=as_allowed(allow)))

    def with_candidates(self, table: pl.DataFrame) -> "Parts":
        """Append candidates; see `Recommender.with_candidates`."""
        old, candidate_id = self.candidates, self.retrieval.model.candidate_id
        added = CandidateTable.of(old.new_rows(table), self.space, candidate_id)
        catalogue = old.catalogue.with_added(added.table[old.column], added.catalogue.batch)
        embeddings = self.retrieval.model.embed_candidates(added.catalogue.batch).cpu()
        other = replace(
            self,
            candidates=old.with_appended(added.table, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.with_added(embeddings, added.catalogue.keys),
        )
        if "similar" in self.__dict__:
            other.__dict__["similar"] = self.similar.with_added(_scaled(embeddings), added.catalogue.keys)
        return self._shared_with(other, "query_encoder")

    def with_changed_candidates(self, table: pl.DataFrame) -> "Parts":
        """Give candidates other features; see `Recommender.with_changed_candidates`."""
        old, model = self.candidates, self.retrieval.model
        new, rows = old.changed_rows(table)
        if not len(new):
            return self
        changed = CandidateTable.of(new, self.space, model.candidate_id).catalogue
        columns = {
            name: replace_rows(column, changed.batch[name], rows) for name, column in old.catalogue.batch.items()
        }
        catalogue = old.catalogue.with_batch(Batch(columns))
        embeddings = model.embed_candidates(changed.batch).cpu()
        other = replace(
            self,
            candidates=old.with_rows(new, rows, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.with_updated(embeddings, changed.keys),
        )
        if "similar" in self.__dict__:
            other.__dict__["similar"] = self.similar.with_updated(_scaled(embeddings), changed.keys)
        return self._shared_with(other, "query_encoder", "popular")

    def without_candidates(self, keys: Iterable[Key]) -> "Parts":
        """Remove candidates; see `Recommender.without_candidates`."""
        old, gone = self.candidates, list(keys)
        kept = old.rows_without(gone)
        if not gone:
            return self
        catalogue = Catalogue(old.table[old.column][kept.numpy()], old.catalogue.batch.take(kept), old.catalogue.key)
        other = replace(
            self,
            candidates=old.only(kept, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.without(np.delete(np.asarray(old.catalogue.keys), kept.numpy())),
        )
        return self._shared_with(other, "query_encoder")

    def with_availability(self, keys: Iterable[Key], is_available: bool) -> "Parts":
        """Let candidates be listed, or not; see `Recommender.with_unavailable`."""
        other = replace(self, candidates=self.candidates.with_availability(keys, is_available))
        return self._shared_with(other, "query_encoder", "popular", "similar", "list_scorer")

    def without_ranking(self) -> "Parts":
        """Keep the order of retrieval; see `Recommender.without_ranking`."""
        other = replace(self, ranking=None)
        return self._shared_with(other, "query_encoder", "popular", "similar")

    def with_events(self, table: pl.DataFrame) -> "Parts":
        """Append events; see `Recommender.with_events`."""
        history = self.history.with_events(table)
        other = replace(self, history=history, queries=self.queries.with_events(history.events))
        return self._shared_with(other, "query_encoder", "similar", "list_scorer")

    def _shared_with(self, other: "Parts", *names: str) -> "Parts":
        """Give others what was made here once and is the same for them."""
        for name in names:
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other


def _scaled(embeddings: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embeddings, dim=1)
