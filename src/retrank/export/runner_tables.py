"""What a runner needs to know of candidates, queries and past events, as arrays and JSON."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError
from retrank.core.files import write_bytes, write_json
from retrank.core.jagged import Jagged
from retrank.data.events import EventLog
from retrank.features import CandidateLists, Recent
from retrank.models.pairs import PAIR_COLUMNS
from retrank.recommender import Recommender
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.transformed import is_telling, transform_known
from retrank.recommender.typed_columns import kind_of_values

__all__ = ["QueryTables", "write_candidates"]

_SAMPLE: Final = 64


def write_candidates(folder: Path, recommender: Recommender, features: Sequence[str]) -> None:
    """Write keys, vectors, availability, popularity and features of the candidates.

    Args:
        folder: of the candidates; it is made.
        recommender: whose they are.
        features: the features of candidates that the ranking model reads.
    """
    catalogue = recommender.catalogue
    write_json(folder / "keys.json", catalogue.keys.tolist())
    _write_array(folder / "vectors.npy", recommender.retrieval.embed_candidates(catalogue.batch).cpu().numpy())
    is_available = ~recommender.candidates[recommender.candidate].is_in(recommender.unavailable.implode())
    _write_array(folder / "available.npy", is_available.to_numpy())
    _write_array(folder / "counts.npy", recommender.history.counts.numpy())
    _write_arrays(folder / "features.npz", _arrays({name: catalogue.batch[name] for name in features}))


@final
class QueryTables:
    """The features of known queries, and what each has seen.

    Args:
        recommender: one with models.
    """

    def __init__(self, recommender: Recommender) -> None:
        queries = recommender.queries
        assert isinstance(queries, QueryFeatures)
        self._recommender, self._queries, self._layout = recommender, queries, recommender.space.layout
        retrieval, ranking = recommender.retrieval, recommender.ranking
        own = {*PAIR_COLUMNS, *recommender.catalogue.batch.names}
        ranked = () if ranking is None else getattr(ranking, "features", ())
        of_ranking = [name for name in ranked if name not in own]
        self.names = list(dict.fromkeys([*retrieval.query_features, *of_ranking]))
        """The features and crosses of queries that the models read."""
        self._parts = self._layout.parts(self.names)
        self._telling = self._layout.parts(retrieval.query_features)
        self._lists = {
            name: kind
            for name in self._parts
            if isinstance(kind := self._layout.features[name], CandidateLists) and kind.of == retrieval.candidate_id
        }
        self._of_history = {
            name: kind
            for name, kind in self._lists.items()
            if self._events.time is not None or not isinstance(kind, Recent)
        }

    def sample(self) -> Batch:
        """Return the features of some known queries.

        Raises:
            ConfigError: there are none.
        """
        keys = self._queries.stored_table[self._queries.query].head(_SAMPLE)
        if not len(keys):
            raise ConfigError("a recommender that knows a query", "none", "export", "build it with queries=")
        events = torch.from_numpy(self._events.queries.find(keys))
        asked = AskedQueries(keys, torch.arange(len(keys)), events, {}, range(len(keys)))
        return self._queries.read(asked)[0]

    def facts(self) -> dict[str, Any]:
        """Return what a runner must know of queries, JSON-able."""
        queries = self._queries
        return {
            "query": queries.query,
            "query_key_type": queries.key_type,
            "candidate": self._recommender.candidate,
            "candidate_key_type": self._recommender.catalogue.key_type,
            "num_retrieved": self._recommender.num_retrieved,
            "column_kinds": {name: kind_of_values(dtype) for name, dtype in queries.column_types.items()},
            "required_columns": self._required(),
            "list_columns": queries.list_columns,
            "telling": self._telling,
            "reads_history": bool(self._of_history),
        }

    def write(self, folder: Path) -> None:
        """Write the tables.

        Args:
            folder: of the queries; it is made.
        """
        table, events = self._queries.stored_table, self._events
        known = table[self._queries.query]
        others = events.queries.keys.filter(pl.Series(self._queries.index.find(events.queries.keys) < 0))
        keys = pl.concat([known, others.alias(known.name)])
        # One row more stands for all queries of which nothing is known.
        places = torch.cat([torch.from_numpy(events.queries.find(keys)), torch.tensor([-1])])
        num_rows = len(places)
        extended = pl.concat([table, table.clear(num_rows - len(table))])
        is_known = torch.arange(num_rows) < len(table)
        columns, arrays = {}, {"is_known": is_known.numpy(), "has_events": (places >= 0).numpy()}
        for name in self._parts:
            columns[name], tells = self._part(name, extended, places)
            arrays[f"tells:{name}"] = (tells if name in self._of_history else tells & is_known).numpy()
        for column in self._required():
            arrays[f"is_absent:{column}"] = extended[column].is_null().to_numpy()
        seen = self._recommender.history.rows_of(events.events(places))
        arrays |= {"seen:values": seen.values.numpy(), "seen:offsets": seen.offsets.numpy()}
        write_json(folder / "keys.json", keys.to_list())
        _write_arrays(folder / "features.npz", {**arrays, **_arrays(columns)})

    @property
    def _events(self) -> EventLog:
        return self._recommender.history.events

    def _part(self, name: str, table: pl.DataFrame, places: Tensor) -> tuple[Column, Tensor]:
        kind = self._layout.features[name]
        schema = kind.schema(name)
        if name not in self._of_history:
            read = self._layout.columns([name])
            column = transform_known(kind, schema, table.select(read))
            return column, is_telling(column, schema) & torch.from_numpy(table[read[0]].is_not_null().to_numpy())
        kind = self._of_history[name]
        events, is_recent = self._events, isinstance(kind, Recent)
        past = events.latest(places, kind.num_recent) if isinstance(kind, Recent) else events.distinct(places)
        ids = Jagged.unchecked(kind.ids(events.candidates.keys)[past.values], past.offsets)
        column = kind.weighted(ids) if is_recent and isinstance(kind, Recent) else ids
        return column, is_telling(column, schema)

    def _required(self) -> list[str]:
        """Return the columns without which a query cannot be embedded."""
        stored = [name for name in self._parts if name not in self._of_history]
        read = {name: self._layout.columns([name]) for name in stored}
        columns = dict.fromkeys(column for name in stored for column in read[name] if column != self._queries.query)
        return [
            column
            for column in columns
            if not all(self._layout.features[name].accepts_nulls for name in stored if column in read[name])
        ]


def _arrays(columns: Mapping[str, Column]) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {}
    for name, column in columns.items():
        if isinstance(column, Tensor):
            arrays[f"column:{name}"] = column.numpy()
            continue
        arrays |= {f"values:{name}": column.values.numpy(), f"offsets:{name}": column.offsets.numpy()}
        if column.weights is not None:
            arrays[f"weights:{name}"] = column.weights.numpy()
    return arrays


def _write_array(file: Path, array: np.ndarray[Any, Any]) -> None:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_bytes(file, content.getvalue())


def _write_arrays(file: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # no name of ours is that of an argument
    write_bytes(file, content.getvalue())
