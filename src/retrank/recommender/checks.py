"""What must fit together before a recommender is built: names, models, features, candidates."""

import os
from typing import Final

import numpy as np
import polars as pl
import torch

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import ColumnSchema
from retrank.data.events import EventLog
from retrank.features.catalogue import Catalogue
from retrank.features.recent import Recent
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.pairs import Candidates, pair_batch
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.frozen import FrozenModel
from retrank.training.model import Model

__all__ = [
    "require_free_names",
    "require_index_of",
    "require_key_columns",
    "require_own_process",
    "require_times",
    "try_ranking",
    "try_retrieval",
]

_RESERVED: Final = ("rank", "score", "stage")  # the columns of a list beside its keys


def require_key_columns(query: str, candidate: str) -> None:
    """Refuse key columns of which a list would have two.

    Args:
        query: the column of query keys.
        candidate: the column of candidate keys.

    Raises:
        DataError: they are one, or named like a column that every list has.
    """
    if query in (*_RESERVED, candidate) or candidate in _RESERVED:
        raise DataError(
            "key columns of other names", f"'{query}' and '{candidate}'", "Recommender",
            f"rename the column: a list has columns named {', '.join(_RESERVED)}",
        )  # fmt: skip


def require_own_process(process: int, what: str) -> None:
    """Refuse what would hang in a process that was forked after polars had started its threads.

    Args:
        process: the number of the process in which a recommender was built.
        what: is asked for.

    Raises:
        ConfigError: it is another one.
    """
    if os.getpid() != process:
        raise ConfigError(
            "a recommender that this process built or loaded",
            "one from before it was forked",
            what,
            "load the bundle in each worker after the fork, or start workers with spawn",
        )


def require_free_names(candidates: pl.DataFrame) -> None:
    """Refuse columns of candidates of which a list would have two.

    Args:
        candidates: the table.

    Raises:
        DataError: one is named like a column that every list has.
    """
    taken = [name for name in candidates.columns if name in _RESERVED]
    if taken:
        raise DataError("other column names", str(taken), "catalogue", "rename them: a list has columns of that name")


def require_times(events: EventLog, space: FeatureSpace, names: list[str], candidate_id: str) -> None:
    """Refuse to guess what a query did last from the order of a table.

    Args:
        events: the log.
        space: the fitted features.
        names: those of the query that the models read.
        candidate_id: the feature that identifies candidates.

    Raises:
        ConfigError: one of them is what a query did last, and the log has no times.
    """
    for name in space.layout.parts(names):
        kind = space.layout.features[name]
        if isinstance(kind, Recent) and kind.of == candidate_id and events.time is None:
            raise ConfigError(
                "a history with times, to know what each query did last",
                "one without",
                f"feature '{name}'",
                "name the column of times, with time=, or let the space have a rr.features.Seen, which has no order",
            )


def require_index_of(index: Index, catalogue: Catalogue) -> None:
    """Refuse an index whose rows are not those of a catalogue.

    Args:
        index: of candidates.
        catalogue: the candidates.

    Raises:
        ConfigError: it holds others, or in another order.
    """
    keys = np.asarray(index.keys)
    if index.num_candidates != len(catalogue) or not np.array_equal(keys, catalogue.keys):
        raise ConfigError(
            f"an index of the {len(catalogue)} candidates, in their order",
            f"{index.num_candidates} others",
            "index",
            "build it with retrieval.build_index(space.catalogue(...))",
        )


def try_retrieval(model: RetrievalModel, space: FeatureSpace) -> None:
    """Embed the last id of every feature, so that a table that is too small says so now and not in a request.

    Args:
        model: the retrieval model.
        space: the fitted features.

    Raises:
        ConfigError: the model is smaller than the space.
    """
    schema = space.schema
    with torch.inference_mode():
        for names, embed in (
            (model.query_features, model.query_embeddings),
            (model.candidate_features, model.candidate_embeddings),
        ):
            embed(Batch({name: _last_id(schema[name]) for name in names}))


def try_ranking(ranking: FrozenModel[Model], names: list[str], space: FeatureSpace, catalogue: Catalogue) -> None:
    """Score one pair of a query of the last ids, which also gives lazy layers their sizes.

    Args:
        ranking: the frozen ranking model.
        names: the features of the query that the models read.
        space: the fitted features.
        catalogue: the candidates.

    Raises:
        ConfigError: the model is smaller than the space.
    """
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
