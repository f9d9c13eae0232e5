"""`QueryFeatures`: what the models need to know of a query, from what is known of it and what it brings."""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Self, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch, Column
from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID
from retrank.data.checks import require_columns
from retrank.data.events import EventLog
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType, as_keys, key_type
from retrank.features.candidate_lists import CandidateLists
from retrank.features.recent import Recent
from retrank.features.space import FeatureSpace
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.brought_histories import BroughtHistories
from retrank.recommender.transformed import blank, is_telling, replace_rows, take_rows, transform_known, transform_rows

__all__ = ["QueryFeatures"]


@final
class QueryFeatures:
    """The transformed features of known queries, a value.

    All features are transformed once, except what a query did: a `Seen` feature of the candidates, and where the log
    has times a `Recent` one, is read from the log at the moment of asking.

    Args:
        table: the feature columns of known queries, one or more rows per query; the last one counts.
        query: the column of query keys.
        space: the fitted features.
        names: the features and crosses that the models need.
        retrieved_by: those of them that retrieval reads.
        events: past events.
        candidate_id: the feature that identifies candidates.

    Raises:
        DataError: a column is missing, a query key is null, or a value that a feature refuses.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        *,
        query: str,
        space: FeatureSpace,
        names: Sequence[str],
        retrieved_by: Sequence[str],
        events: EventLog,
        candidate_id: str,
    ) -> None:
        layout = space.layout
        self.query, self._layout, self._names = query, layout, list(names)
        self._parts, self._telling = layout.parts(names), layout.parts(retrieved_by)
        self._kinds = {name: layout.features[name] for name in self._parts}
        self._columns = {name: layout.column(name) for name in self._parts}
        self._read = {name: layout.columns([name]) for name in self._parts}  # with the weights of lists
        self._lists = {
            name: kind
            for name, kind in self._kinds.items()
            if isinstance(kind, CandidateLists) and kind.of == candidate_id
        }
        self._of_history = {
            name: kind for name, kind in self._lists.items() if events.time is not None or not isinstance(kind, Recent)
        }
        stored = [name for name in self._parts if name not in self._of_history]
        read = [column for name in stored for column in self._read[name]]
        columns = list(dict.fromkeys(column for column in read if column != query))
        require_columns(table, [query, *columns], "queries")
        keys = as_keys(table[query], None, "error")
        self.key_type: KeyType = key_type(keys)
        self._table = (
            table.select(keys, *columns)
            .unique(query, keep="last", maintain_order=True)
            .with_columns(pl.selectors.float().fill_nan(None))
        )
        self.index = KeyIndex(self._table[query])
        self._schema = {name: kind.schema(name) for name, kind in self._kinds.items()}
        self._stored: dict[str, Column] = {
            name: transform_known(self._kinds[name], self._schema[name], self._table.select(self._read[name]))
            for name in stored
        }
        self._required = [
            column
            for column in columns
            if not all(self._kinds[name].accepts_nulls for name in stored if column in self._read[name])
        ]
        self._absent = {
            column: torch.from_numpy(self._table[column].is_null().to_numpy(writable=True))
            for column in self._required
            if self._table[column].null_count()
        }
        self._events = events
        self._ids = {name: kind.ids(events.candidates.keys) for name, kind in self._of_history.items()}

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def column_types(self) -> dict[str, pl.DataType]:
        """The type of each feature column that a query may bring."""
        lists = dict.fromkeys(
            (self._columns[name] for name in self._of_history), pl.List(self._events.candidates.dtype)
        )
        return {name: dtype for name, dtype in {**self._table.schema, **lists}.items() if name != self.query}

    @property
    def list_columns(self) -> list[str]:
        """The columns with what a query did, as lists of candidate keys."""
        return list(dict.fromkeys(self._columns[name] for name in self._lists))

    @property
    def reads_histories(self) -> bool:
        """Whether retrieval reads what a query did, as a list of candidates."""
        return any(name in self._lists for name in self._telling)

    @property
    def reads_in_order_of_log(self) -> bool:
        """Whether a list that has no order is read in the order in which the log has candidates."""
        return any(not isinstance(kind, Recent) for kind in self._lists.values())

    def history_ids(self, keys: pl.Series) -> tuple[Tensor, Tensor]:
        """Look up candidates of histories that queries bring.

        Args:
            keys: `(n,)` of candidates.

        Returns:
            `(n,)` int64 ids in the vocabulary of the candidates, and `(n,)` bool, which are in it.
        """
        for kind in self._lists.values():  # all of one vocabulary
            ids = kind.ids(keys)
            return ids, ids >= NUM_SPECIAL_IDS
        return torch.full((len(keys),), UNKNOWN_ID), torch.zeros(len(keys), dtype=torch.bool)

    @property
    def stored_table(self) -> pl.DataFrame:
        """The key and feature columns of known queries that do not come from the event log."""
        return self._table

    @property
    def table(self) -> pl.DataFrame:
        """All feature columns of known queries as they stand now, made when asked for."""
        places = torch.from_numpy(self._events.queries.find(self._table[self.query]))
        lists = []
        for name, kind in self._of_history.items():
            past = _past(self._events, kind, places)
            keys = self._events.candidates.keys.gather(past.values.numpy())
            by_query = pl.DataFrame({"row": past.row_index().numpy(), "key": keys})
            found = by_query.group_by("row", maintain_order=True).agg("key")
            column = pl.DataFrame({"row": pl.arange(0, len(past), eager=True)}).join(found, on="row", how="left")
            lists.append(column["key"].fill_null([]).alias(self._columns[name]))
        return self._table.with_columns(lists)

    def with_events(self, events: EventLog) -> Self:
        """Return the same features with a log that has more events than the one before."""
        added = events.candidates.keys_from(len(self._events.candidates))
        other = copy.copy(self)
        other._events = events
        other._ids = {name: torch.cat([ids, self._of_history[name].ids(added)]) for name, ids in self._ids.items()}
        return other

    def read(self, asked: AskedQueries) -> tuple[Batch, Tensor]:
        """Collect the features of queries; those that a query lacks are blank.

        Args:
            asked: the queries; what they bring is of the right types already.

        Returns:
            The features, and `(n,)` bool, of which queries those that retrieval reads say more than that there is
            nothing, or nothing but unknown keys.

        Raises:
            DataError: a value that a feature refuses, with the row in the caller's table.
        """
        if len(asked) == 1 and not asked.brought and asked.histories is None and int(asked.places) >= 0:
            return self._one_known(int(asked.places), asked.events)
        made = {name: self._part(name, asked) for name in self._parts}
        batch = self._layout.combine({name: column for name, (column, _) in made.items()}, self._names)
        tells = [made[name][1] for name in self._telling] or [torch.ones(len(asked), dtype=torch.bool)]
        return batch, torch.stack(tells).any(dim=0)

    def require_whole(self, asked: AskedQueries) -> None:
        """Require that queries bring lists together with their weights, or neither.

        Args:
            asked: the queries.

        Raises:
            DataError: a query brings one without the other, with its row.
        """
        for own, *others in self._read.values():
            for other in others:
                lacks = {column: self._lacks(column, asked) for column in (own, other)}
                apart = lacks[own] ^ lacks[other]
                if not apart.any():
                    continue
                row = int(apart.arg_max() or 0)
                lacking = own if lacks[own][row] else other
                where = "the query" if asked.rows is None else f"queries, row {asked.rows[row]}"
                expected = f"'{own}' with the weights of its keys, '{other}', or neither"
                raise DataError(expected, f"nothing as '{lacking}'", where, "bring both")

    def usable(self, asked: AskedQueries) -> Tensor:
        """Return `(n,)` bool, which queries can be embedded.

        Those that are known or bring something, and lack nothing that may not be null; and those that bring a history,
        which says enough: what they lack is blank.

        Args:
            asked: the queries.
        """
        is_known = asked.places >= 0
        usable = is_known | (asked.events >= 0) if self._of_history else is_known.clone()
        there = {
            name: torch.from_numpy(column.is_not_null().to_numpy(writable=True))
            for name, column in asked.brought.items()
        }
        for brings in there.values():
            usable |= brings
        for name in self._required:
            stored = is_known
            if name in self._absent:
                stored = is_known & ~self._absent[name][asked.places.clamp(min=0)]
            usable &= stored | there[name] if name in there else stored
        return usable if asked.histories is None else usable | asked.histories.is_brought

    def _one_known(self, place: int, event: Tensor) -> tuple[Batch, Tensor]:
        """Collect the features of one known query that brings nothing: views, nothing is gathered."""
        rows = slice(place, place + 1)
        batch = Batch(
            {
                name: self._past(name, event) if name in self._of_history else self._whole[name][rows]
                for name in self._names
            }
        )
        tells = self._any_stored_tells[rows]
        if not bool(tells):
            tells = tells.clone()
            for name in self._telling:
                if name in self._of_history:
                    tells |= is_telling(batch[name], self._schema[name])
        return batch, tells

    @cached_property
    def _whole(self) -> dict[str, Column]:
        """The features and crosses of all known queries, without those that come from the event log."""
        names = [name for name in self._names if name not in self._of_history]
        return dict(self._layout.combine(self._stored, names).items()) if names else {}

    @cached_property
    def _stored_tells(self) -> dict[str, Tensor]:
        """Of which known queries each stored feature says something; a null that the kind accepts says nothing."""
        there = {name: self._table[self._columns[name]].is_not_null().to_numpy(writable=True) for name in self._stored}
        return {
            name: is_telling(column, self._schema[name]) & torch.from_numpy(there[name])
            for name, column in self._stored.items()
        }

    @cached_property
    def _any_stored_tells(self) -> Tensor:
        tells = torch.full((len(self.index),), not self._telling)
        for name in self._telling:
            if name in self._stored:
                tells |= self._stored_tells[name]
        return tells

    def _past(self, name: str, events: Tensor) -> Jagged:
        kind = self._of_history[name]
        lists = _past(self._events, kind, events)
        ids = Jagged.unchecked(self._ids[name][lists.values], lists.offsets)
        return kind.weighted(ids) if isinstance(kind, Recent) else ids

    def _part(self, name: str, asked: AskedQueries) -> tuple[Column, Tensor]:
        """Return a feature, and of which queries it says something."""
        kind, histories = self._kinds[name], asked.histories if name in self._lists else None
        if histories is not None and bool(histories.is_brought.all()):
            whole = self._of_histories(name, histories)
            return whole, is_telling(whole, self._schema[name])
        if name in self._of_history:
            made: Column = self._past(name, asked.events)
            tells = is_telling(made, self._schema[name])
        else:
            made, tells = self._known(name, asked), asked.places >= 0
            if len(self.index):
                tells = tells & self._stored_tells[name][asked.places.clamp(min=0)]
        if histories is not None:
            rows = histories.is_brought.nonzero()[:, 0]
            lists = self._of_histories(name, histories.take(rows))
            made, tells[rows] = replace_rows(made, lists, rows), is_telling(lists, self._schema[name])
        brought = [self._brought(column, asked) for column in self._read[name]]
        given = [column for column in brought if column is not None and column.null_count() < len(column)]
        if not given:
            return made, tells
        values = pl.DataFrame(given).drop_nulls()  # `require_whole` has seen that all are null in the same rows
        rows = torch.from_numpy(given[0].is_not_null().to_numpy(writable=True)).nonzero()[:, 0]
        named = None if asked.rows is None else [asked.rows[row] for row in rows.tolist()]
        others = transform_rows(kind, name, values, named)
        # A key that is hashed gets an id, though nothing was learned of it.
        is_of_key = self._columns[name] == self.query and not kind.can_grow
        tells[rows] = False if is_of_key else is_telling(others, self._schema[name])
        return replace_rows(made, others, rows), tells

    def _of_histories(self, name: str, histories: BroughtHistories) -> Jagged:
        """Return a feature of what queries did, read from what they say themselves as it is from the log."""
        kind = self._lists[name]
        return kind.weighted(histories.latest(kind.num_recent)) if isinstance(kind, Recent) else histories.distinct()

    def _brought(self, column: str, asked: AskedQueries) -> pl.Series | None:
        if column != self.query:
            return asked.brought.get(column)
        if int(asked.places.min()) >= 0:  # every query brings its key, which matters where it is not stored
            return None
        return asked.keys.set(pl.Series((asked.places >= 0).numpy()), None)

    def _lacks(self, column: str, asked: AskedQueries) -> pl.Series:
        brought = asked.brought.get(column)
        return pl.repeat(value=True, n=len(asked), eager=True) if brought is None else brought.is_null()

    def _known(self, name: str, asked: AskedQueries) -> Column:
        stored, places = self._stored[name], asked.places
        unknown = (places < 0).nonzero()[:, 0]
        if not len(unknown):
            return take_rows(stored, places)
        kind, schema = self._kinds[name], self._schema[name]
        if self._columns[name] == self.query and schema.kind == "ids" and not schema.is_jagged:
            nothing: Column = torch.full((len(unknown),), UNKNOWN_ID)  # of a query without a key, too
        elif kind.accepts_nulls:
            nulls = self._table.select(self._read[name]).clear(len(unknown))
            nothing = kind.transform_rows(nulls, name)
        else:
            nothing = blank(schema, len(unknown))
        if not len(self.index):
            return nothing
        return replace_rows(take_rows(stored, places.clamp(min=0)), nothing, unknown)


def _past(events: EventLog, kind: CandidateLists, places: Tensor) -> Jagged:
    """Return what queries did, as a kind of feature wants it: places of candidates in the log."""
    return events.latest(places, kind.num_recent) if isinstance(kind, Recent) else events.distinct(places)
