"""`recommend_to_file`: lists for any number of queries in a file, on all cores; what was stopped goes on."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import polars as pl
import torch

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError, DataError
from retrank.core.files import sha256, storage_errors
from retrank.core.manifest import MANIFEST
from retrank.core.version import __version__
from retrank.core.working import Working
from retrank.data.checks import require_columns
from retrank.data.file_source import FileSource
from retrank.recommender.bulk_files import BulkFormat, format_of
from retrank.recommender.conditions import condition
from retrank.recommender.recommender import Recommender
from retrank.recommender.rules import condition_text

__all__ = ["BulkSummary", "recommend_to_file"]

_ROWS_OF_PART: Final = 2**16
_QUERIES_OF_PART: Final = 4096
_WAITING: Final = 2  # parts for each worker that are read and not written yet
_CSV: Final = (".csv", ".tsv")


@final
@dataclass(frozen=True)
class BulkSummary:
    """What was written.

    Args:
        out: the file.
        queries: how many queries there are.
        resumed: how many of them an earlier call had answered, which was stopped.
        seconds: that this call took.
        bytes: the size of the file.
    """

    out: Path
    queries: int
    resumed: int
    seconds: float
    bytes: int


def recommend_to_file(
    bundle: str | Path,
    out: str | Path,
    queries: str | Path | None = None,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    where: pl.Expr | str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> BulkSummary:
    """Recommend to all queries of a bundle, or to those in a file, and write the rows of `Recommender.recommend_many`.

    Lists are made part by part, by a thread on each core, and each part is kept in a folder beside `out`,
    `.NAME.parts-...`, until the last one is there. Then the parts become one file, which takes the place of an older
    one in one step. After a call that was stopped, by whatever it may be, the same call goes on from the parts that are
    there; with another bundle, other queries or arguments it begins anew. The bytes of the file do not depend on how
    often it was stopped, or on the number of workers. Memory does not grow with the queries.

    Args:
        bundle: the directory of a recommender.
        out: a `.parquet`, `.csv` or `.jsonl` file.
        queries: a Parquet or CSV file, or a glob of them, with a row per query: its key and, if they are new or have
            changed, its feature columns. All queries that the bundle knows by default.
        k: the length of a list.
        exclude_seen: leave out what a query interacted with.
        where: a condition on the columns of the catalogue, as a polars expression or in SQL.
        workers: threads; one for each core by default.
        progress: whether to show progress on a terminal.

    Returns:
        What was written.

    Raises:
        ConfigError: another kind of file, or a bad number.
        DataError: the file of queries lacks the key, or a value is of another kind than in training; the condition
            cannot be applied.
        StorageError: there is no bundle, or the disk is full; `out` is then as it was.

    Example:
        >>> import polars as pl, tempfile, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
        >>> itemknn = rr.baselines.ItemKNN().fit(plays, query="user", candidate="song")
        >>> recommender = rr.Recommender(itemknn, catalogue=plays.select("song").unique(), history=plays)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recommender.save(f"{folder}/bundle")
        ...     done = rr.recommender.recommend_to_file(f"{folder}/bundle", f"{folder}/lists.parquet", k=1)
        ...     pl.read_parquet(done.out).select("user", "song").rows()
        [('a', 'z'), ('b', 'y'), ('c', 'x')]
    """
    started, out = time.perf_counter(), Path(out)
    check_count(k, "k", "recommend_to_file")
    workers = _num_cores() if workers is None else workers
    check_count(workers, "workers", "recommend_to_file")
    kind = format_of(out)
    only = None if where is None else condition(where, "where")
    recommender, version = _load(bundle, progress)
    asked = _Asked(recommender, queries)
    told = [version, asked.digest, k, exclude_seen, _text_of(only), kind.suffix, __version__]
    job = _Job(recommender, asked, _parts_folder(out, told), kind, k, exclude_seen, only)
    with Working(f"recommending to {len(asked):,} queries", total=len(asked), enabled=progress) as work:
        resumed = job.run(workers, work)
    with Working(f"writing {out}", enabled=progress):
        kind.join(job.files(), out)
    shutil.rmtree(job.folder, ignore_errors=True)
    return BulkSummary(out, len(asked), resumed, time.perf_counter() - started, out.stat().st_size)


@final
class _Asked:
    """The queries, in pieces.

    Args:
        recommender: whose queries are asked, unless a file names others.
        path: the file, or None.
    """

    def __init__(self, recommender: Recommender, path: str | Path | None) -> None:
        self._keys = recommender.queries.index.keys.alias(recommender.query)
        self._source, self.path, self.digest = None, path, ""
        if path is None:
            return
        types = {recommender.query: self._keys.dtype, **recommender.queries.column_types}
        source = FileSource(path)
        require_columns(source.columns, [recommender.query], str(path))
        self._columns = [name for name in types if name in source.columns]
        if Path(path).suffix.lower() in _CSV:
            declared = {name: types[name] for name in self._columns if not types[name].is_nested()}
            source = FileSource(path, schema=declared)
        self._source = source
        self.digest = "".join(sha256(file) for file in source.files)

    def __len__(self) -> int:
        return len(self._keys) if self._source is None else self._source.num_rows

    def pieces(self, first: int, size: int) -> Iterator[pl.DataFrame]:
        """Yield the queries from one on, so many at a time.

        Args:
            first: where to begin, a multiple of the size.
            size: of a piece; the last may be shorter.
        """
        if self._source is None:
            for start in range(first, len(self._keys), size):
                yield self._keys[start : start + size].to_frame()
        else:
            yield from self._source.frames(size, self._columns, start=first)
        if not len(self):
            yield self._keys.clear().to_frame()


@final
@dataclass(frozen=True)
class _Job:
    """Lists to make, part by part.

    Args:
        recommender: makes them.
        asked: for whom.
        folder: of the parts.
        kind: of the files.
        k: the length of a list.
        exclude_seen: whether to leave out what a query interacted with.
        where: a condition on the catalogue.
    """

    recommender: Recommender
    asked: _Asked
    folder: Path
    kind: BulkFormat
    k: int
    exclude_seen: bool
    where: pl.Expr | None

    @property
    def size(self) -> int:
        """Queries of a part: so many that its rows are few enough to be held by every worker."""
        return max(1, min(_QUERIES_OF_PART, _ROWS_OF_PART // self.k))

    def files(self) -> list[Path]:
        """The files of all parts, in order; there is one at least."""
        count = max(1, -(-len(self.asked) // self.size))
        return [self.folder / f"{number:08}{self.kind.suffix}" for number in range(count)]

    def run(self, workers: int, work: Working) -> int:
        """Make all parts that are not there yet.

        Args:
            workers: threads.
            work: counts the queries.

        Returns:
            How many queries had been answered before.
        """
        files, threads = self.files(), torch.get_num_threads()
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lacking = [number for number, file in enumerate(files) if not file.exists()]
        resumed = sum(self._length(number) for number in range(len(files))) - sum(map(self._length, lacking))
        work.advance(resumed)
        try:
            # The threads of workers are enough: each operation takes one.
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                self._run(pool, files, lacking, workers * _WAITING, work)
        finally:
            torch.set_num_threads(threads)
        return resumed

    def _run(self, pool: ThreadPoolExecutor, files: list[Path], lacking: list[int], most: int, work: Working) -> None:
        wanted, running = set(lacking), set[Future[int]]()
        first = min(lacking, default=len(files))
        try:
            for number, table in enumerate(self.asked.pieces(first * self.size, self.size), first):
                if number not in wanted:
                    continue
                while len(running) >= most:
                    running = _finish_some(running, work)
                running.add(pool.submit(self._make, files[number], table, number))
            while running:
                running = _finish_some(running, work)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    def _make(self, file: Path, table: pl.DataFrame, number: int) -> int:
        try:
            lists = self.recommender.recommend_many(table, self.k, exclude_seen=self.exclude_seen, where=self.where)
        except DataError as error:
            if self.asked.path is None:
                raise
            where = f"{error.where}, counted from row {number * self.size:,} of {self.asked.path}"
            raise DataError(error.expected, error.got, where, error.fix) from error
        self.kind.write(lists, file)
        return len(table)

    def _length(self, number: int) -> int:
        return min(self.size, len(self.asked) - number * self.size)


def _finish_some(running: set[Future[int]], work: Working) -> set[Future[int]]:
    done, others = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        work.advance(future.result())
    return others


def _parts_folder(out: Path, told: list[Any]) -> Path:
    """Name the folder by all that decides what is in the parts, and delete those of other calls."""
    if not out.name or out.is_dir():
        raise ConfigError("a file to write", f"'{out}', a folder", "out", "name a file in it, such as lists.parquet")
    stem = f".{out.name}.parts-"
    folder = out.with_name(stem + hashlib.sha256(repr(told).encode()).hexdigest()[:16])
    if out.parent.is_dir():
        with storage_errors(out):
            for other in out.parent.iterdir():
                if other.name.startswith(stem) and other != folder:
                    shutil.rmtree(other, ignore_errors=True)
    return folder


def _load(bundle: str | Path, progress: bool) -> tuple[Recommender, str]:
    """Read a bundle, and tell which version of it that is."""
    while True:
        recommender, manifest = None, Path(bundle, MANIFEST)
        before = sha256(manifest) if manifest.is_file() else ""
        recommender = Recommender.load(bundle, progress=progress)
        with storage_errors(manifest):
            if sha256(manifest) == before:
                return recommender, before


def _text_of(where: pl.Expr | None) -> str:
    if where is None:
        return ""
    text = condition_text(where)
    return secrets.token_hex(8) if text is None else hashlib.sha256(text).hexdigest()  # else no two are known equal


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
