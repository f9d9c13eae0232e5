"""`Parts`: what a recommender consists of, built once and never changed."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import numpy as np
import polars as pl
import torch

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import ColumnSchema
from retrank.data.checks import require_columns, require_rows
from retrank.data.event_times import time_column
from retrank.data.events import EventLog
from retrank.data.keys import as_keys
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.recent import Recent
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.multitask import MultiTaskRanking
from retrank.models.pairs import PAIR_COLUMNS, Candidates, pair_batch
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.card import Card
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.popularity import PopularCandidates
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.request import Key
from retrank.recommender.rules import AllowLists, Conditions, rows_of_keys
from retrank.recommender.stages import ListScorer, QueryEncoder, list_scorer, query_encoder, serving_index
from retrank.training.model import Model

__all__ = ["CandidateTable", "Parts", "build_parts"]

RESERVED = ("rank", "score", "stage")
"""The columns of a list beside its keys."""


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
        require_columns(table, [column], "catalogue")
        require_rows(table, "catalogue")
        taken = [name for name in table.columns if name in RESERVED]
        if taken:
            raise DataError(
                "other column names", str(taken), "catalogue", "rename them: a list has columns of that name"
            )
        table = table.with_columns(as_keys(table[column], None, "error"))
        return cls(table, column, space.catalogue(table, key=candidate_id))

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

    def require_own_process(self, what: str) -> None:
        """Refuse what would hang in a process that was forked after polars had started its threads.

        Raises:
            ConfigError: this is such a process.
        """
        if os.getpid() != self.process:
            raise ConfigError(
                "a recommender that this process built or loaded",
                "one from before it was forked",
                what,
                "load the bundle in each worker after the fork, or start workers with spawn",
            )

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

    def with_candidates(self, table: pl.DataFrame) -> "Parts":
        """Append candidates; see `Recommender.with_candidates`."""
        old = self.candidates
        require_columns(table, old.table.columns, "new candidates")
        new = table.select(old.table.columns)
        if new.schema != old.table.schema:
            expected = f"columns of types {dict(old.table.schema)}"
            raise DataError(expected, str(dict(new.schema)), "new candidates", "cast them")
        added = CandidateTable.of(new, self.space, self.retrieval.model.candidate_id)
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
        rows = rows_of_keys(old.catalogue, gone)
        if len(rows) < len(set(gone)):
            unknown = next(key for key in gone if int(old.catalogue.rows([key])[0]) < 0)
            raise DataError("keys of candidates", repr(unknown), "without_candidates")
        if not gone:
            return self
        kept = torch.ones(len(old), dtype=torch.bool)
        kept[rows] = False
        table = old.table.filter(pl.Series(kept.numpy()))
        require_rows(table, "the candidates that are left")
        catalogue = Catalogue(table[old.column], old.catalogue.batch.take(kept.nonzero()[:, 0]), old.catalogue.key)
        return replace(
            self,
            candidates=CandidateTable(table, old.column, catalogue),
            history=self.history.with_catalogue(catalogue),
            index=self.index.without(np.asarray(old.catalogue.keys)[rows.numpy()]),
        )

    def with_events(self, table: pl.DataFrame) -> "Parts":
        """Append events; see `Recommender.with_events`."""
        history = self.history.with_events(table)
        return replace(self, history=history, queries=self.queries.with_events(history.events))


def build_parts(
    retrieval: FrozenModel[RetrievalModel],
    ranking: FrozenModel[Model] | None,
    space: FeatureSpace,
    candidates: pl.DataFrame,
    history: pl.DataFrame | EventLog,
    queries: pl.DataFrame | None,
    *,
    time: str | None,
    index: Index | None,
    num_retrieved: int,
    card: Card,
) -> Parts:
    """Build what answers requests; see `Recommender`, which says what is refused.

    Args:
        retrieval: the frozen model that embeds.
        ranking: the frozen model that ranks, or None.
        space: the frozen feature space of both.
        candidates: the table of candidates.
        history: past events, as a table or a log.
        queries: the table of known queries; None to take it from the table of events.
        time: the column of times in the table of events.
        index: the candidates' embeddings; None for the exact index.
        num_retrieved: how many candidates are retrieved for ranking.
        card: what a reader must know.
    """
    model = retrieval.model
    table = CandidateTable.of(candidates, space, model.candidate_id)
    query = space.columns([model.query_id])[0]
    _require_key_column(query, table.column)
    names = _query_features(model, None if ranking is None else ranking.model, table.catalogue)
    if isinstance(history, EventLog):
        events = history
    else:
        events, last_rows = _events(history, query, table.column, time)
        if queries is None:
            _require_times(events, space, names, model.candidate_id)
            queries = history[last_rows.numpy()]
    assert queries is not None
    known = QueryFeatures(
        queries, query=query, space=space, names=names, events=events, candidate_id=model.candidate_id
    )
    _require_fitting(model, space)
    if ranking is not None:
        _try_ranking(ranking, names, space, table.catalogue)
    past = History.of(events, table.catalogue)
    if isinstance(history, pl.DataFrame):
        past.warn_of_others()
    return Parts(
        space=space,
        retrieval=retrieval,
        ranking=ranking,
        candidates=table,
        history=past,
        queries=known,
        index=serving_index(model, table.catalogue) if index is None else _same_candidates(index, table.catalogue),
        num_retrieved=num_retrieved,
        card=card,
    )


def _events(table: pl.DataFrame, query: str, candidate: str, time: str | None) -> tuple[EventLog, torch.Tensor]:
    require_columns(table, [query, candidate], "history")
    time = time_column(table.schema, (query, candidate)) if time is None else time
    return EventLog.with_last_rows(table, query=query, candidate=candidate, time=time)


def _require_times(events: EventLog, space: FeatureSpace, names: list[str], candidate_id: str) -> None:
    """Refuse to guess what a query did last from the order of a table."""
    for name in space.layout.parts(names):
        kind = space.layout.features[name]
        if isinstance(kind, Recent) and kind.of == candidate_id and events.time is None:
            raise ConfigError(
                "a history with times, to know what each query did last",
                "one without",
                f"feature '{name}'",
                "name the column of times, with time=, or let the space have a rr.features.Seen, which has no order",
            )


def _query_features(retrieval: RetrievalModel, ranking: Model | None, catalogue: Catalogue) -> list[str]:
    names = list(retrieval.query_features)
    if isinstance(ranking, MultiTaskRanking):
        raise ConfigError(
            "a ranking model with one score per pair",
            f"one with the tasks {list(ranking.task_names)}",
            "ranking of Recommender",
            f"say what orders: rr.models.TaskScore(model, {ranking.task_names[0]!r}), or weights of several",
        )
    if ranking is not None:
        features = getattr(ranking, "features", None)
        if features is None:
            raise ConfigError(
                "the names of the model's features",
                "no attribute 'features'",
                type(ranking).__name__,
                "set self.features to the columns that its forward() reads",
            )
        own = {*PAIR_COLUMNS, *catalogue.batch.names}
        names += [name for name in features if name not in own]
    both = [name for name in retrieval.query_features if name in catalogue.batch]
    if both:
        raise ConfigError(
            "features of the query that the catalogue does not have",
            str(both),
            "catalogue",
            "drop these columns from it, or give the feature another name, with column=",
        )
    return list(dict.fromkeys(names))


def _require_key_column(query: str, candidate: str) -> None:
    if query in (*RESERVED, candidate) or candidate in RESERVED:
        raise DataError(
            "key columns of other names", f"'{query}' and '{candidate}'", "Recommender",
            f"rename the column: a list has columns named {', '.join(RESERVED)}",
        )  # fmt: skip


def _require_fitting(model: RetrievalModel, space: FeatureSpace) -> None:
    """Ask for the last id of every feature, so that a table that is too small says so now and not in a request."""
    schema = space.schema
    with torch.inference_mode():
        for names, embed in (
            (model.query_features, model.query_embeddings),
            (model.candidate_features, model.candidate_embeddings),
        ):
            embed(Batch({name: _last_id(schema[name]) for name in names}))


def _try_ranking(ranking: FrozenModel[Model], names: list[str], space: FeatureSpace, catalogue: Catalogue) -> None:
    """Score one pair of a query of the last ids, which also gives lazy layers their sizes."""
    query = Batch({name: _last_id(space.schema[name]) for name in names})
    one = Candidates(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64))
    pairs = pair_batch(ranking.needed(query), ranking.needed(catalogue.batch), one)
    with torch.inference_mode():
        ranking.model(pairs.to(ranking.device))


def _last_id(schema: ColumnSchema) -> Column:
    if schema.kind == "ids":
        ids = torch.tensor([(schema.num_ids or 1) - 1])
        return Jagged.from_lengths(ids, torch.tensor([1])) if schema.is_jagged else ids
    return torch.zeros(1) if schema.width == 1 else torch.zeros(1, schema.width)


def _same_candidates(index: Index, catalogue: Catalogue) -> Index:
    keys = np.asarray(index.keys)
    if index.num_candidates != len(catalogue) or not np.array_equal(keys, catalogue.keys):
        raise ConfigError(
            f"an index of the {len(catalogue)} candidates, in their order",
            f"{index.num_candidates} others",
            "index",
            "build it with retrieval.build_index(space.catalogue(...))",
        )
    return index
