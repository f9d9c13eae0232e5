"""Events and impressions as Parquet files, and events as a table to learn from."""

import tempfile
from pathlib import Path

import polars as pl

from retrank.core.errors import StorageError
from retrank.core.files import atomic_file
from retrank.core.parquet import write_parquet
from retrank.serving.stores.store import Store
from retrank.serving.stores.tables import EventPages, ImpressionPages

__all__ = ["export_events", "export_impressions", "read_events"]


def read_events(store: Store, after: int = 0) -> pl.DataFrame:
    """Read the events of a store as a table.

    Rename its columns to those of a history, and it is what `rr.update` learns from.

    Args:
        store: what to read, up to its position now.
        after: the last position that is not wanted, e.g. that up to which a bundle has learned.

    Returns:
        One row per event, in the order of their positions:

        - `position`: its place in the store,
        - `id`: what tells it from others,
        - `query` and `candidate`: their keys, as strings, integers or booleans,
        - `type`: what happened,
        - `time`: when, in UTC,
        - `value`: how much; null where the type says it all,
        - `list_id`: the list in which the candidate was shown; null if it was in none.

    Raises:
        StorageError: the store cannot be read.
        DataError: the keys of the queries, or those of the candidates, are not all of one type.

    Example:
        >>> import tempfile
        >>> from retrank.serving.stores import Event, open_store, read_events
        >>> with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/events.db") as store:
        ...     likes = [Event(str(n), query=42, candidate=c, type="like", time=n) for n, c in enumerate("abc")]
        ...     _ = store.append_events(likes)
        ...     events = read_events(store, after=1)
        >>> news = events.filter(type="like").select(user="query", song="candidate", time="time")
        >>> news["song"].to_list()
        ['b', 'c']
    """
    pages = EventPages(store, after)
    frames = list(pages)
    return pl.concat([pages.schema.to_frame(), *(_typed(frame.lazy(), pages.schema).collect() for frame in frames)])


def export_events(store: Store, path: str | Path, after: int = 0) -> int:
    """Write the events of a store as a Parquet file, in the memory that a page takes.

    Args:
        store: what to read, up to its position now.
        path: the file, with the columns of `read_events`; it appears when it is complete.
        after: the last position that is not wanted.

    Returns:
        The position up to which the store was read; give it as `after` the next time.

    Raises:
        StorageError: the store cannot be read or the file not be written.
        DataError: the keys of the queries, or those of the candidates, are not all of one type.
    """
    return _export(EventPages(store, after), path)


def export_impressions(store: Store, path: str | Path, after: int = 0) -> int:
    """Write the impressions of a store as a Parquet file, in the memory that a page takes.

    Args:
        store: what to read.
        path: the file; it appears when it is complete. One row per list, in the order of their positions:

            - `position`: its place among the impressions of the store,
            - `list_id`: what events refer to,
            - `query`: its key, as a string, an integer or a boolean; null if it was anonymous,
            - `time`: when it was shown, in UTC,
            - `keys`: the candidates, from the top of the list to its end,
            - `scores` and `probabilities`: of each of them; with which probability it came to its place,
            - `bundle`: the version of the bundle that made the list.

            `frame.explode("keys", "scores", "probabilities")` makes a row of each candidate.
        after: the last position that is not wanted.

    Returns:
        The position up to which impressions were read; give it as `after` the next time.

    Raises:
        StorageError: the store cannot be read or the file not be written.
        DataError: the keys of the queries, or those of the candidates, are not all of one type.
    """
    return _export(ImpressionPages(store, after), path)


def _export(pages: EventPages | ImpressionPages, path: str | Path) -> int:
    path = Path(path)
    with atomic_file(path) as draft, tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        # The type of keys may be unknown until the last page: so pages are files of their own first.
        parts = []
        for number, page in enumerate(pages):
            parts.append(Path(folder, f"{number}.parquet"))
            write_parquet(parts[-1], page)
        frames = [pages.schema.to_frame().lazy(), *(_typed(pl.scan_parquet(part), pages.schema) for part in parts)]
        try:
            pl.concat(frames).sink_parquet(draft)
        except pl.exceptions.PolarsError as error:
            got = f"{type(error).__name__}: {error}"
            raise StorageError("a file that can be written", got, str(path), "check the space on the disk") from error
    return pages.position


def _typed(frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Give columns without any key the type of those that have some."""
    return frame.cast({name: dtype for name, dtype in schema.items()})  # noqa: C416 (gives mypy the wider type)
