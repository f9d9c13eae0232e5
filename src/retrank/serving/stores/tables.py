"""Events and impressions as tables, a page at a time."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, final

import polars as pl

from retrank.core.errors import DataError
from retrank.recommender.request import Key
from retrank.serving.stores.records import Event, Impression
from retrank.serving.stores.store import Store

__all__ = ["EventPages", "ImpressionPages"]

_PAGE: Final = 10_000
_TYPES: Final[dict[type, type[pl.DataType]]] = {str: pl.String, int: pl.Int64, bool: pl.Boolean}
_TIME: Final = pl.Datetime("us", "UTC")


@final
class _KeyColumn:
    """The type that all keys of a column have: it is not known before the first, and none may differ from it.

    Args:
        name: of the column, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._type: type | None = None

    @property
    def dtype(self) -> type[pl.DataType]:
        """Of the column; `pl.Null` while no key was seen."""
        return pl.Null if self._type is None else _TYPES[self._type]

    def require(self, keys: Iterable[Key | None], position: int) -> None:
        """Look at keys.

        Args:
            keys: None is no key.
            position: where they are, for messages.

        Raises:
            DataError: one has another type than those before.
        """
        for key in keys:
            if key is None or type(key) is self._type:
                continue
            if self._type is not None:
                fix = "read them with the store's own methods, which keep the type of each"
                expected = f"keys of one type, {self._type.__name__}"
                got = f"{key!r}, of type {type(key).__name__}"
                raise DataError(expected, got, f"column '{self.name}', position {position} of the store", fix)
            self._type = type(key)


@final
class EventPages:
    """The events of a store in pages, up to its position when the reading begins.

    Args:
        store: what to read.
        after: the last position that is not wanted.

    Attributes:
        position: up to which the store was read.
    """

    def __init__(self, store: Store, after: int) -> None:
        self._store, self.position = store, after
        self._query, self._candidate = _KeyColumn("query"), _KeyColumn("candidate")

    @property
    def schema(self) -> pl.Schema:
        """The types of all pages together; in a page, a column of keys without any is `pl.Null`."""
        return pl.Schema(
            {
                "position": pl.Int64(),
                "id": pl.String(),
                "query": self._query.dtype(),
                "candidate": self._candidate.dtype(),
                "type": pl.String(),
                "time": _TIME,
                "value": pl.Float64(),
                "list_id": pl.String(),
            }
        )

    def __iter__(self) -> Iterator[pl.DataFrame]:
        last = self._store.position()
        while self.position < last:
            changes = self._store.changes(self.position, _PAGE)
            events = [(change.position, change.item) for change in changes if isinstance(change.item, Event)]
            yield self._page(events)
            self.position = changes[-1].position  # there is one: what was last may only have moved further

    def _page(self, events: Sequence[tuple[int, Event]]) -> pl.DataFrame:
        for position, event in events:
            self._query.require((event.query,), position)
            self._candidate.require((event.candidate,), position)
        rows = [(n, e.id, e.query, e.candidate, e.type, e.time, e.value, e.list_id) for n, e in events]
        return _frame(rows, self.schema)


@final
class ImpressionPages:
    """The impressions of a store in pages, as many as there are when the reading ends.

    Args:
        store: what to read.
        after: the last position that is not wanted.

    Attributes:
        position: up to which the store was read.
    """

    def __init__(self, store: Store, after: int) -> None:
        self._store, self.position = store, after
        self._query, self._keys = _KeyColumn("query"), _KeyColumn("keys")

    @property
    def schema(self) -> pl.Schema:
        """The types of all pages together; in a page, a column of keys without any is `pl.Null`."""
        return pl.Schema(
            {
                "position": pl.Int64(),
                "list_id": pl.String(),
                "query": self._query.dtype(),
                "time": _TIME,
                "keys": pl.List(self._keys.dtype()),
                "scores": pl.List(pl.Float64()),
                "probabilities": pl.List(pl.Float64()),
                "bundle": pl.String(),
            }
        )

    def __iter__(self) -> Iterator[pl.DataFrame]:
        while page := self._store.impressions(self.position, _PAGE):
            yield self._page(page)
            self.position = page[-1][0]

    def _page(self, shown: Sequence[tuple[int, Impression]]) -> pl.DataFrame:
        for position, impression in shown:
            self._query.require((impression.query,), position)
            self._keys.require(impression.keys, position)
        rows = [
            (n, i.list_id, i.query, i.time, list(i.keys), list(i.scores), list(i.probabilities), i.bundle)
            for n, i in shown
        ]
        return _frame(rows, self.schema)


def _frame(rows: Sequence[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [
            # A time is a number here; polars takes it for one of its own type only by a cast.
            pl.Series(name, values, dtype=pl.Int64 if dtype == _TIME else dtype).cast(dtype)
            for (name, dtype), values in zip(schema.items(), columns, strict=True)
        ]
    )
