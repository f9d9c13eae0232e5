"""From models and tables to the parts of a recommender."""

import polars as pl
import torch

from retrank.core.errors import ConfigError
from retrank.data.checks import require_columns
from retrank.data.event_times import time_column
from retrank.data.events import EventLog
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.multitask import MultiTaskRanking
from retrank.models.pairs import PAIR_COLUMNS
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.candidate_table import CandidateTable
from retrank.recommender.card import Card
from retrank.recommender.checks import (
    require_index_of,
    require_key_columns,
    require_times,
    try_ranking,
    try_retrieval,
)
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.index_choice import card_with_index, index_for
from retrank.recommender.parts import Parts
from retrank.recommender.query_features import QueryFeatures
from retrank.training.model import Model

__all__ = ["build_parts", "event_log"]


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
        index: the candidates' embeddings; None to choose one by their number, of which the card will tell.
        num_retrieved: how many candidates are retrieved for ranking.
        card: what a reader must know.
    """
    model = retrieval.model
    table = CandidateTable.of(candidates, space, model.candidate_id)
    query = space.columns([model.query_id])[0]
    require_key_columns(query, table.column)
    names = _query_features(model, None if ranking is None else ranking.model, table.catalogue)
    if isinstance(history, EventLog):
        events = history
    else:
        events, last_rows = event_log(history, query, table.column, time)
        if queries is None:
            require_times(events, space, names, model.candidate_id)
            queries = history[last_rows.numpy()]
    assert queries is not None
    known = QueryFeatures(
        queries,
        query=query,
        space=space,
        names=names,
        retrieved_by=model.query_features,
        events=events,
        candidate_id=model.candidate_id,
    )
    if index is not None:
        require_index_of(index, table.catalogue)
    try_retrieval(model, space)
    if ranking is not None:
        try_ranking(ranking, names, space, table.catalogue)
    if index is None:
        choice = index_for(retrieval, table.catalogue, known, events)
        index, card = choice.index, card_with_index(card, choice)
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
        index=index,
        num_retrieved=num_retrieved,
        card=card,
    )


def event_log(table: pl.DataFrame, query: str, candidate: str, time: str | None) -> tuple[EventLog, torch.Tensor]:
    """Read a table of events.

    Args:
        table: one row per event.
        query: the column of query keys.
        candidate: the column of candidate keys.
        time: the column of times; None for the one that must be it, if there is one.

    Returns:
        The log, and the row of each query's last event.

    Raises:
        DataError: a missing column, a null key or time, or keys or times of another type.
    """
    require_columns(table, [query, candidate], "history")
    time = time_column(table.schema, (query, candidate)) if time is None else time
    return EventLog.with_last_rows(table, query=query, candidate=candidate, time=time)


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
