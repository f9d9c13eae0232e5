"""`Streaming`: the dot product with every candidate of a catalogue that does not fit in memory."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.directories import atomic_directory
from retrank.core.errors import DataError, ShapeError, StorageError
from retrank.core.manifest import write_manifest
from retrank.core.parquet import write_parquet
from retrank.core.parquet_counts import check_counts
from retrank.core.snapshots import Snapshot
from retrank.data.background import background
from retrank.index.index import Index, SearchResult
from retrank.index.keys import KeysLike, RawKeys, joined, raw_keys
from retrank.index.storage import check_format, key_series
from retrank.index.streams import CandidateStream, table_stream
from retrank.ops.best_candidates import Allowed, best_of_stream
from retrank.ops.prepared_candidates import PreparedCandidates, prepare_candidates
from retrank.ops.score_blocks import group_width
from retrank.ops.score_checks import RowLists, as_float32, check_finite

__all__ = ["Streaming"]

_FORMAT: Final = {"format": "retrank.index.streaming", "version": 1}
_PART_ROWS: Final = 262_144  # candidates in a saved file
_PIECE_ROWS: Final = 32_768  # candidates in memory at a time, or as many as are scored together


@final
class Streaming(Index):
    """An exact index whose embeddings stay where they are and are read once for each search, whatever the batch.

    It gives, to the last bit, the results of `Exact`. In memory it holds the keys and a few blocks of embeddings.
    Each search reads everything, so search for many queries at once. It is read once when the index is made, too, to
    count and check the candidates. To change them, change what the stream reads and make the index anew.

    Args:
        stream: gives the candidates; `table_stream`, `safetensors_stream`, or any function that returns pieces
            `(embeddings (rows, dim), keys)`, with None for keys if they are the row numbers.
        device: where scores are computed.

    Raises:
        ShapeError: embeddings of another shape or dtype.
        DataError: no candidates, embeddings that are not finite, or bad keys.

    Example:
        >>> import torch, retrank as rr
        >>> def embed_songs():
        ...     yield torch.tensor([[1.0, 0.0], [0.0, 1.0]]), ["a", "b"]
        ...     yield torch.tensor([[1.0, 1.0]]), ["c"]
        >>> index = rr.index.Streaming(embed_songs)
        >>> index.search(torch.tensor([[2.0, 1.0]]), k=2).keys.tolist()
        [['c', 'a']]

    Source: `Streaming` of TensorFlow Recommenders, which computes anew for each query batch in an evaluation and takes
        a fixed number of exclusions.
    """

    saved_as = "retrank.index.streaming"

    def __init__(self, stream: CandidateStream, *, device: torch.device | str = "cpu") -> None:
        self._stream = stream
        self._device = torch.empty(0, device=device).device  # "cuda" by its number, as tensors name it
        parts: list[KeysLike | None] = []
        num_candidates, dim = 0, 0
        for embeddings, keys in stream():
            embeddings = as_float32(embeddings, f"embeddings, rows from {num_candidates}")
            if len(embeddings) == 0:
                continue
            dim = dim or embeddings.shape[1]
            self._check_width(embeddings, dim, num_candidates)
            check_finite(embeddings, "embeddings", first_row=num_candidates)
            parts.append(None if keys is None else raw_keys(keys, len(embeddings)))
            num_candidates += len(embeddings)
        if not num_candidates:
            raise DataError(
                "at least one candidate", "none", "stream", "check what it reads; it is called for each pass"
            )
        self._keys = joined(parts, num_candidates)
        self._num_candidates, self._dim = num_candidates, dim

    @property
    def is_exact(self) -> bool:
        """True."""
        return True

    @property
    def keys(self) -> RawKeys:
        """The raw keys in row order: `(num_candidates,)` int64 tensor or array of `str`."""
        return self._keys

    @property
    def num_candidates(self) -> int:
        """How many candidates there are."""
        return self._num_candidates

    def search_rows(
        self, queries: Tensor, k: int, *, exclude: RowLists | None = None, allow: Allowed | None = None
    ) -> SearchResult:
        """Find the best candidates as rows, in one pass for all queries; see `Index.search_rows`.

        Args:
            queries: `(batch, dim)` on the index's device.
            k: how many, at most `num_candidates`.
            exclude: one list per query of candidate rows that must not be returned.
            allow: the only candidates that may be returned.

        Returns:
            Scores and rows, `(batch, k)` each, best first, ties in row order.

        Raises:
            DataError: the stream gave other candidates than when the index was made.
        """
        self._check_k(k)
        found = best_of_stream(
            queries,
            self._parts(),
            self.num_candidates,
            k,
            dim=self._dim,
            device=self._device,
            exclude=exclude,
            allow=allow,
        )
        return SearchResult(*found)

    def save(self, directory: str | Path) -> None:
        """Copy the candidates, piece by piece, into Parquet files with the columns `key` and `embedding`.

        Args:
            directory: replaced as a whole if it exists.
        """
        keys = key_series(self._keys)
        with atomic_directory(directory) as draft:
            for part, block in enumerate(self._pieces(_PART_ROWS)):
                names = keys[part * _PART_ROWS :][:_PART_ROWS]
                vectors = pl.Series("embedding", block.numpy())
                write_parquet(draft / f"candidates-{part:06}.parquet", pl.DataFrame([names, vectors]))
            write_manifest(draft, _FORMAT)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Make an index that reads what `save` wrote, where it stands; see `Index.from_snapshot`.

        Args:
            snapshot: its directory must stay as it is as long as the index is used.

        Returns:
            An index with the same results, on the CPU.

        Raises:
            StorageError: files missing, damaged or of another kind; when it is read later, the directory was written
                anew.
        """
        check_format(snapshot, _FORMAT)
        snapshot.check()  # before anything reads the files by their names
        for name in snapshot.names:
            check_counts(snapshot.read(name), snapshot.where(name))
        read = table_stream(f"{glob.escape(str(snapshot.directory))}/candidates-*.parquet")

        def stream() -> Iterator[tuple[Tensor, KeysLike | None]]:
            yield from read()
            if not snapshot.is_current():
                raise StorageError(
                    "the directory that was loaded", "a newer one", str(snapshot.directory), "load the index anew"
                )

        return cls(stream)

    def _parts(self) -> Iterator[PreparedCandidates]:
        """Read all candidates, the next ones while the last are searched."""
        width = group_width(self._device)
        for piece in background(self._pieces(max(_PIECE_ROWS // width, 1) * width)):
            yield prepare_candidates(piece.to(self._device))

    def _pieces(self, width: int) -> Iterator[Tensor]:
        """Read all candidates: `(width, dim)` float32 pieces, the last of them shorter."""
        piece, filled, num_read = torch.empty(width, self._dim), 0, 0
        for embeddings, _ in self._stream():
            embeddings = as_float32(embeddings, f"embeddings, rows from {num_read}")
            self._check_width(embeddings, self._dim, num_read)
            num_read += len(embeddings)
            if num_read > self.num_candidates:
                break
            while len(embeddings):
                taken = embeddings[: width - filled]
                piece[filled : filled + len(taken)] = taken
                filled, embeddings = filled + len(taken), embeddings[len(taken) :]
                if filled == width:
                    yield piece
                    piece, filled = torch.empty(width, self._dim), 0
        if num_read != self.num_candidates:
            raise DataError(
                f"{self.num_candidates} candidates, as before", f"{num_read} or more", "stream", "make the index anew"
            )
        if filled:
            yield piece[:filled]

    @staticmethod
    def _check_width(embeddings: Tensor, dim: int, first_row: int) -> None:
        if embeddings.shape[1] != dim:
            raise ShapeError(
                f"embeddings of width {dim}",
                f"{embeddings.shape[1]}",
                f"embeddings, row {first_row}",
                "check the stream",
            )
