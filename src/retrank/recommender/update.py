"""`update`: a recommender that has learned from new events, without starting over."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from retrank.core.arguments import check_count, check_number
from retrank.core.errors import ConfigError
from retrank.core.version import __version__
from retrank.data.checks import require_rows
from retrank.data.sources import TableLike, frame
from retrank.embeddings.int8 import Int8Table
from retrank.features.catalogue import Catalogue
from retrank.index.index import Index
from retrank.models.reranker import Reranker
from retrank.models.retrieval import RetrievalModel
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.spec import OptimizerSpec
from retrank.recommender.card import Card
from retrank.recommender.index_choice import FACT
from retrank.recommender.recommender import Recommender
from retrank.recommender.refitting import refitted
from retrank.recommender.update_models import ModelUpdate, reads_past
from retrank.recommender.update_tables import UpdateTables

__all__ = ["update"]


def update(
    recommender: Recommender | str | Path,
    new_events: TableLike,
    new_candidates: TableLike | None = None,
    new_queries: TableLike | None = None,
    *,
    epochs: int = 2,
    replay: float = 0.5,
    optimizer: OptimizerSpec | None = None,
    batch_size: int = 1024,
    ranking_epochs: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Recommender:
    """Learn from new events, new queries and new candidates, beginning with what a recommender knows.

    Vocabularies grow and the models with them (`Model.grow`). The retrieval model is trained on, with the loss and the
    negatives that it was built with, on the new events and as many old ones as `replay` asks for, so that it forgets
    little; what each query had done strictly before an event is read from the history. The index is built anew, and
    measured anew if it was chosen by the number of candidates, the events join the history, and the card says what was
    done. A ranking model is kept and grown, and to it new keys are
    as unknown keys were; a `Reranker` counts co-occurrences again, over the whole history.

    Where training has taken a weight, it goes a part of the way: the root of the share that these rows have in all rows
    it was ever learned from. Keys without events in these rows keep their vectors, those with few among many move
    little, new ones in full; what all share, such as dense layers, goes by the share of all events.

    A baseline is fitted again to all events, with its settings; what says how to learn does not matter to it.

    Old events are learned from with the features of their queries as they stand now, and at the times of the history.
    Give only such events, and keep only such a history, as the models should learn from; `replay=0` leaves the old ones
    alone.

    Args:
        recommender: what to update, or the directory of its bundle; it does not change.
        new_events: one row per event, with the columns of the history: keys, and times if it has any. Feature columns
            of queries count as they were at that time. Events that were appended before, by `with_events`, are learned
            from and not appended twice, if there are times.
        new_candidates: the columns of the catalogue for candidates that are new or have changed.
        new_queries: the feature columns of queries that are new or have changed; by default taken from the last event
            of each query, if the events have them.
        epochs: passes over the new and the replayed rows.
        replay: how many old events are learned from again, for each new one.
        optimizer: `rr.optim.LazyAdam(lr=0.006)` by default; its learning rates fall to zero in a straight line.
        batch_size: rows of a batch.
        ranking_epochs: passes of a `Reranker` over lists that retrieval, as it was before, makes for the new events.
        seed: of everything that is drawn; the same call gives the same recommender, on a CPU to the last bit.
        progress: whether to report progress on standard error.

    Returns:
        Another recommender.

    Raises:
        ConfigError: what cannot be updated: a model with row weights, which no history keeps, or with a part that
            cannot grow; a feature that needs times without any; an index that cannot change; `ranking_epochs` without a
            `Reranker`.
        DataError: a table lacks a column or has one of another type, or an event is of a query or with a candidate of
            which nothing is known.
        StorageError: there is no bundle, or it is damaged.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
        >>> space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
        >>> model = rr.models.MatrixFactorization(
        ...     space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
        >>> songs = pl.DataFrame({"song": list("xyz")})
        >>> recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
        >>> news = pl.DataFrame({"user": ["d"], "song": ["w"]})
        >>> updated = rr.update(recommender, news, new_candidates=news.select("song"))
        >>> recommender.space.schema["user"].num_ids, updated.space.schema["user"].num_ids, len(updated.catalogue)
        (5, 6, 4)

    Source: warm-start training with replay, as in Rendle and Schmidt-Thieme, Online-Updating Regularized Kernel Matrix
    Factorization Models, RecSys 2008, and Robins, Catastrophic Forgetting, Rehearsal and Pseudorehearsal, 1995. Going
    a part of the way is averaging, as in Zhang et al., Lookahead Optimizer, 2019; by how much is our own choice.
    """
    check_count(epochs, "epochs", "update")
    check_count(batch_size, "batch_size", "update")
    check_count(ranking_epochs, "ranking_epochs", "update", least=0)
    check_number(replay, "replay", "update", least=0)
    before = _recommender(recommender, progress)
    if before.baseline is not None:
        given = frame(new_events), _frame(new_candidates), _frame(new_queries)
        return refitted(before, before.baseline, *given, progress=progress)
    _require_updatable(before, ranking_epochs)
    ranking, candidate_id = before.ranking, before.retrieval.candidate_id
    read = [*before.retrieval.features, *getattr(ranking, "features", ())]
    features = [name for name in dict.fromkeys(read) if name in before.space.names]
    tables = UpdateTables.of(before, frame(new_events), _frame(new_candidates), _frame(new_queries), features)
    rows = tables.rows(tables.new)
    growing = [name for name in before.space.layout.parts(features) if before.space[name].can_grow]
    space = before.space.grown(rows, growing)
    catalogue = space.catalogue(tables.candidates, key=candidate_id)
    models = ModelUpdate(before, tables, space, catalogue, seed, progress)
    retrieval, ranker = models.grown(before.retrieval), None if ranking is None else models.grown_ranking(ranking)
    if isinstance(ranker, Reranker):
        if ranking_epochs:
            models.train_ranking(ranker, retrieval, rows, ranking_epochs)
        models.count_co_occurrences(ranker)
    past = reads_past(retrieval, tables, space)
    old = tables.replayed(round(replay * len(rows)), with_past=bool(past), seed=seed)
    learned = pl.concat([rows, tables.rows(old).select(rows.columns)]) if len(old) else rows
    if past:
        learned = learned.filter(pl.all_horizontal(pl.col(name).list.len() > 0 for name in past))
        require_rows(learned, "events of queries with a past")
    optimizer = LazyAdam(lr=0.006) if optimizer is None else optimizer
    models.train_retrieval(retrieval, learned, epochs=epochs, optimizer=optimizer, batch_size=batch_size)
    updated = Recommender(
        retrieval=retrieval,
        space=space,
        catalogue=tables.candidates,
        history=tables.events.table(),
        ranking=ranker,
        queries=tables.queries,
        time=tables.events.time,
        num_retrieved=before.num_retrieved,
        index=None if FACT in before.card.facts else _rebuilt(before.index, retrieval, catalogue),
        card=_card(before, tables, {"replayed": len(old), "epochs": epochs, "seed": seed}),
        progress=progress,
    )
    return updated.with_unavailable(before.unavailable)


def _recommender(given: Recommender | str | Path, progress: bool) -> Recommender:
    if isinstance(given, Recommender):
        return given
    if isinstance(given, str | Path):
        return Recommender.load(given, progress=progress)
    raise ConfigError("a Recommender, or the directory of its bundle", type(given).__name__, "update")


def _rebuilt(index: Index, retrieval: RetrievalModel, catalogue: Catalogue) -> Index:
    return index.rebuilt(retrieval.embed_candidates(catalogue.batch).cpu(), catalogue.keys)


def _frame(table: TableLike | None) -> pl.DataFrame | None:
    return None if table is None else frame(table)


def _require_updatable(before: Recommender, ranking_epochs: int) -> None:
    model, ranking = before.retrieval, before.ranking
    if model.weight is not None:
        raise ConfigError(
            "a model without row weights",
            f"weight='{model.weight}'",
            "update",
            "a history keeps no weights: grow the model by model.grow(space), and fit it on weighted rows",
        )
    if any(isinstance(part, Int8Table) for part in model.modules()):
        raise ConfigError(
            "a model that learns",
            "tables of 8 bits",
            "update",
            "update the model that was quantized, and quantize that",
        )
    if ranking_epochs and not isinstance(ranking, Reranker):
        got = "none" if ranking is None else type(ranking).__name__
        raise ConfigError("a Reranker, to train it on lists of retrieval", got, "update(ranking_epochs=...)")


def _card(before: Recommender, tables: UpdateTables, facts: dict[str, int]) -> Card:
    """Return the card with what an update did."""
    card, added = before.card, len(tables.events) - len(tables.old)
    done = {
        "events": len(tables.new),
        "events that were not in the history": added,
        "new queries": len(tables.queries) - len(before.queries),
        "new candidates": len(tables.candidates) - len(before.candidates),
        **facts,
        "retrank": __version__,
    }
    updates = [*card.facts.get("updates", []), done]
    said = (
        f"Updated with {done['events']:,} events of {tables.new[tables.query].n_unique():,} queries, beside "
        f"{done['replayed']:,} old ones; {done['new queries']:,} queries and {done['new candidates']:,} candidates "
        "were new. Metrics on this card are from before."
    )
    return replace(card, data="\n\n".join(filter(None, [card.data, said])), facts={**card.facts, "updates": updates})
