"""The tables of an update: checked against those that a recommender was built of, and joined to rows to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.seeds import generator
from retrank.data.checks import require_columns, require_no_nulls, require_rows, require_time, require_unique
from retrank.data.event_times import as_times, times_like
from retrank.data.events import EventLog
from retrank.data.key_index import KeyIndex
from retrank.data.keys import as_keys, key_type
from retrank.data.seen_candidates import with_seen_candidates
from retrank.features.recent import Recent
from retrank.features.seen import Seen
from retrank.recommender.recommender import Recommender
from retrank.recommender.typed_columns import as_trained

__all__ = ["UpdateTables", "checked_events", "merged", "require_known", "unknown_events"]

_LIST: Final = "other candidates of the query"


@final
@dataclass(frozen=True)
class UpdateTables:
    """What a recommender knows after an update, and the events to learn from.

    Args:
        query: the column of query keys.
        candidate: the column of candidate keys.
        new: the new events, with whatever query features they bring.
        old: the log before the update.
        events: the log after it.
        candidates: the table of candidates after it; old ones keep their places.
        queries: the feature columns of known queries after it.
        recents: the columns with what a query did last, and how long they are at most.
        seens: the columns with what a query has, and how long they were at most in training.
        required: the columns of queries in which a null cannot be learned from.
    """

    query: str
    candidate: str
    new: pl.DataFrame
    old: EventLog
    events: EventLog
    candidates: pl.DataFrame
    queries: pl.DataFrame
    recents: dict[str, int | None]
    seens: dict[str, int]
    required: list[str]

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        new_events: pl.DataFrame,
        new_candidates: pl.DataFrame | None,
        new_queries: pl.DataFrame | None,
        features: Sequence[str],
    ) -> Self:
        """Check new tables and merge them with those of a recommender.

        Args:
            recommender: before the update.
            new_events: the events.
            new_candidates: new candidates, and known ones with other features.
            new_queries: new queries, and known ones with other features.
            features: what the models read.

        Raises:
            ConfigError: a feature needs times that the events do not have.
            DataError: a missing column, a value of another type, or an event of a query or with a candidate of which
                nothing is known.
        """
        query, candidate, log = recommender.query, recommender.candidate, recommender.history.events
        layout, stored = recommender.space.layout, recommender.queries.stored_table
        kinds = {name: layout.features[name] for name in layout.parts(features)}
        recents: dict[str, int | None] = {}
        seens: dict[str, int] = {}
        for name, kind in kinds.items():
            if isinstance(kind, Recent) and kind.of == recommender.retrieval.candidate_id:
                column = layout.column(name)
                lengths = [kind.num_recent, recents.get(column, kind.num_recent)]
                recents[column] = None if None in lengths else max(length or 0 for length in lengths)
            elif isinstance(kind, Seen) and kind.of == recommender.retrieval.candidate_id:
                seens[layout.column(name)] = kind.longest or 1
        if recents and log.time is None:
            fix = "build the recommender with the times of its history"
            raise ConfigError("a history with times, for what came before each event", "none", "update", fix)
        new = checked_events(new_events, log, stored)
        candidates = recommender.candidates
        if new_candidates is not None:
            candidates = merged(candidates, new_candidates, candidate, "new_candidates")
        brought = new
        if new_queries is not None:
            queries = merged(stored, new_queries, query, "new_queries")
        elif set(stored.columns) <= set(new.columns):
            brought = new if log.time is None else new.sort(log.time, maintain_order=True)
            last = brought.select(stored.columns).unique(query, keep="last", maintain_order=True)
            queries = merged(stored, last, query, "new_events")
        else:
            queries = stored
        require_known(new[query], queries[query], "queries")
        require_known(new[candidate], candidates[candidate], "candidates")
        required = {layout.column(name) for name, kind in kinds.items() if not kind.accepts_nulls}
        return cls(
            query=query,
            candidate=candidate,
            new=new,
            old=log,
            events=log.with_events(unknown_events(new, log)),
            candidates=candidates,
            queries=queries,
            recents=recents,
            seens=seens,
            required=[name for name in queries.columns if name in required],
        )

    def replayed(self, count: int, *, with_past: bool, seed: int) -> pl.DataFrame:
        """Draw old events whose query and candidate are known, at random and each at most once.

        Args:
            count: how many; fewer if there are not so many.
            with_past: leave out the first events of queries.
            seed: of the draw.

        Returns:
            Keys, and times if there are any.
        """
        offsets, codes, times = self.old.codes()
        owners = torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())
        usable = self.queries.filter(
            pl.all_horizontal(pl.col(name).is_not_null() for name in [self.query, *self.required])
        )
        eligible = _is_in(self.old.queries.keys, usable[self.query])[owners]
        eligible &= _is_in(self.old.candidates.keys, self.candidates[self.candidate])[codes.long()]
        if with_past and times is not None:
            numbers = torch.from_numpy(times.to_physical().to_numpy(writable=True))
            eligible &= numbers > numbers[offsets[owners]]
        places = eligible.nonzero()[:, 0]
        drawn = places[torch.randperm(len(places), generator=generator(seed, "replay"))[:count]].sort().values
        columns = [
            self.old.queries.keys.gather(owners[drawn].numpy()).alias(self.query),
            self.old.candidates.keys.gather(codes[drawn].numpy()).alias(self.candidate),
        ]
        table = pl.DataFrame(columns if times is None else [*columns, times.gather(drawn.numpy())])
        return table if times is None else table.join(self.new, on=table.columns, how="anti", maintain_order="left")

    def rows(self, events: pl.DataFrame) -> pl.DataFrame:
        """Join events with the features of their queries and candidates, and with what came before or is there beside.

        Args:
            events: keys, times if there are any, and columns that stand in place of the query's.

        Returns:
            One row per event, in order.
        """
        table = events.drop([name for name in (*self.recents, *self.seens) if name in events.columns])
        for details, key in ((self.queries, self.query), (self.candidates, self.candidate)):
            names = [name for name in details.columns if name == key or name not in table.columns]
            table = table.join(details.select(names), on=key, how="left", maintain_order="left")
        lists = [self._before(events, length).alias(name) for name, length in self.recents.items()]
        lists += [self._beside(events, length).alias(name) for name, length in self.seens.items()]
        return table.with_columns(lists)

    def _beside(self, events: pl.DataFrame, length: int) -> pl.Series:
        """Return lists of other candidate keys that the query of each event has, drawn where there are many."""
        pairs = self.events.distinct_pairs().join(events, on=self.query, how="semi")
        lists = with_seen_candidates(pairs, query=self.query, candidate=self.candidate, length=length, name=_LIST)
        return events.join(lists, on=[self.query, self.candidate], how="left", maintain_order="left")[_LIST]

    def _before(self, events: pl.DataFrame, length: int | None) -> pl.Series:
        """Return lists of the candidate keys that the query of each event had strictly before it, oldest first."""
        assert self.events.time is not None
        places = torch.from_numpy(self.events.queries.find(events[self.query]))
        lists = self.events.latest_before(places, events[self.events.time], length)
        keys = self.events.candidates.keys.gather(lists.values.numpy())
        found = pl.DataFrame({"row": lists.row_index().numpy(), "key": keys}).group_by("row", maintain_order=True)
        rows = pl.DataFrame({"row": pl.arange(0, len(lists), eager=True)})
        return rows.join(found.agg("key"), on="row", how="left", maintain_order="left")["key"].fill_null([])


def checked_events(table: pl.DataFrame, log: EventLog, queries: pl.DataFrame) -> pl.DataFrame:
    """Return the key and time columns of events, and the query features that they bring, in the types of old ones.

    Args:
        table: the events.
        log: the old ones.
        queries: the feature columns of known queries.

    Raises:
        DataError: no rows, or a column that is missing or of another type.
    """
    keys = {log.query: log.query_type, log.candidate: log.candidate_type}
    require_columns(table, [*keys, *([] if log.time is None else [log.time])], "new_events")
    require_rows(table, "new_events")
    require_no_nulls(table, keys, "new_events")
    columns = {name: as_keys(table[name], kind, "error") for name, kind in keys.items()}
    if log.time is not None and log.time_type is not None:
        require_time(table, log.time, "new_events")
        columns[log.time] = as_times(times_like(table[log.time], log.time_type, len(table)), log.time, log.time_type)
    for name, dtype in queries.schema.items():
        if name not in columns and name in table.columns:
            columns[name] = _typed(table[name], dtype, "new_events")
    return pl.DataFrame(list(columns.values()))


def merged(old: pl.DataFrame, new: pl.DataFrame, key: str, where: str) -> pl.DataFrame:
    """Replace the rows of known keys, and append those of new ones.

    Args:
        old: a row per key.
        new: rows with the same columns.
        key: the column of keys.
        where: what `new` is called in messages.

    Raises:
        DataError: a column is missing or of another type, or a key is null or repeated.
    """
    require_columns(new, old.columns, where)
    require_no_nulls(new, [key], where)
    kind = key_type(old[key])
    added = pl.DataFrame(
        [
            as_keys(new[name], kind, "error") if name == key else _typed(new[name], dtype, where)
            for name, dtype in old.schema.items()
        ]
    )
    require_unique(added, key, where)
    places = KeyIndex(old[key]).find(added[key])
    rows = np.arange(len(old))
    rows[places[places >= 0]] = len(old) + np.flatnonzero(places >= 0)
    return pl.concat([old, added])[np.concatenate([rows, len(old) + np.flatnonzero(places < 0)])]


def _typed(column: pl.Series, dtype: pl.DataType, where: str) -> pl.Series:
    """Return a column in the type of the one that was trained on, which must be able to hold it."""
    column = as_trained(column, dtype, where)
    if column.dtype == dtype:
        return column
    cast = column.cast(dtype, strict=False)
    lost = (cast.is_null() & column.is_not_null()) if dtype.is_nested() else ~cast.cast(column.dtype).eq_missing(column)
    if lost.any():
        row = int(lost.arg_max() or 0)
        raise DataError(
            f"{dtype} values, as in training", repr(column[row]), f"column '{column.name}', row {row} of {where}"
        )
    return cast


def require_known(keys: pl.Series, known: pl.Series, what: str) -> None:
    """Require that all keys of events are known.

    Args:
        keys: of the events.
        known: the known keys.
        what: "queries" or "candidates".

    Raises:
        DataError: one is not.
    """
    unknown = ~_is_in(keys, known)
    if unknown.any():
        row = int(unknown.nonzero()[0])
        raise DataError(
            f"keys of {what} that are known, or whose features are given",
            repr(keys[row]),
            f"column '{keys.name}', row {row} of new_events",
            f"give new_{what} (on the command line --{what}), or leave the row out",
        )


def unknown_events(new: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """Return the new events without those that were appended to the log before; without times nobody can tell.

    Args:
        new: the events.
        log: the old ones.
    """
    names = [log.query, log.candidate, *([] if log.time is None else [log.time])]
    return (
        new.select(names)
        if log.time is None
        else new.select(names).join(log.table(), on=names, how="anti", maintain_order="left")
    )


def _is_in(keys: pl.Series, known: pl.Series) -> Tensor:
    return torch.from_numpy(KeyIndex(known).find(keys) >= 0)
