"""Past events on disk: keys once and events as numbers, sorted: small, and read without looking up a key."""

from pathlib import Path
from typing import Final

import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.errors import StorageError
from retrank.core.files import write_json
from retrank.core.parquet import parse_parquet, write_parquet
from retrank.core.snapshots import Snapshot
from retrank.core.values import built_from, checked
from retrank.data.events import EventLog

__all__ = ["parse_events", "write_events"]

_EVENTS_FILE: Final = "events.parquet"
_COLUMNS_FILE: Final = "columns.json"


class _Columns(TypedDict):
    query: str
    candidate: str
    time: str | None


def write_events(directory: Path, events: EventLog) -> None:
    """Write a log into a folder of a draft.

    Args:
        directory: is made.
        events: the log.
    """
    directory.mkdir()
    offsets, codes, times = events.codes()
    queries = torch.arange(len(offsets) - 1, dtype=torch.int32).repeat_interleave(offsets.diff())
    table = {"query": queries.numpy(), "candidate": codes.numpy()}
    write_parquet(directory / _EVENTS_FILE, pl.DataFrame(table if times is None else {**table, "time": times}))
    write_json(directory / _COLUMNS_FILE, {"query": events.query, "candidate": events.candidate, "time": events.time})
    for name, index in (("queries", events.queries), ("candidates", events.candidates)):
        write_parquet(directory / f"{name}.parquet", index.keys.alias("key").to_frame())


def parse_events(snapshot: Snapshot, folder: str) -> EventLog:
    """Read what `write_events` wrote.

    Args:
        snapshot: the directory.
        folder: in it.

    Returns:
        The log.

    Raises:
        StorageError: a file is missing, damaged, or does not fit the others.
    """
    file = f"{folder}/{_COLUMNS_FILE}"
    names = checked(snapshot.json(file), _Columns, snapshot.where(file))
    queries, candidates = (_keys(snapshot, f"{folder}/{name}.parquet") for name in ("queries", "candidates"))
    file = f"{folder}/{_EVENTS_FILE}"
    where = snapshot.where(file)
    table = parse_parquet(snapshot.read(file), where)
    columns = ["query", "candidate"] if names["time"] is None else ["query", "candidate", "time"]
    if table.columns != columns or any(
        table[name].dtype != pl.Int32 or table[name].null_count() for name in columns[:2]
    ):
        raise StorageError(f"the columns {columns}, integers", str(dict(table.schema)), where, "restore the bundle")
    with built_from(where):
        return EventLog.from_codes(
            queries=queries.alias(names["query"]),
            candidates=candidates.alias(names["candidate"]),
            offsets=_offsets(torch.from_numpy(table["query"].to_numpy(writable=True)), len(queries), where),
            codes=torch.from_numpy(table["candidate"].to_numpy(writable=True)),
            times=None if names["time"] is None else table["time"].alias(names["time"]),
        )


def _keys(snapshot: Snapshot, file: str) -> pl.Series:
    table = parse_parquet(snapshot.read(file), snapshot.where(file))
    if table.columns != ["key"]:
        raise StorageError("the column 'key'", str(table.columns), snapshot.where(file), "restore the bundle")
    return table["key"]


def _offsets(of_query: Tensor, num_queries: int, where: str) -> Tensor:
    """Return where the events of each query begin, from the place of each event's query."""
    if len(of_query):
        least, most = (int(limit) for limit in of_query.aminmax())
        if least < 0 or most >= num_queries or bool((of_query.diff() < 0).any()):
            got = f"{least} to {most}, or in another order"
            raise StorageError(f"ascending places of {num_queries} queries", got, where, "restore the bundle")
    offsets = torch.zeros(num_queries + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(of_query, minlength=num_queries), dim=0, out=offsets[1:])
    return offsets
