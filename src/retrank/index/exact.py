"""`Exact`: the dot product with every candidate."""

from pathlib import Path
from typing import Final, Self, final

from torch import Tensor

from retrank.core.directories import atomic_directory
from retrank.core.errors import ShapeError
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import Snapshot
from retrank.index.index import Index, SearchResult
from retrank.index.keys import KeysLike, RawKeys, appended, keys_of, raw_keys, rows_left, rows_to_change
from retrank.index.storage import KEYS_FILE, check_format, read_embeddings, read_keys, write_embeddings, write_keys
from retrank.ops.best_candidates import Allowed, best_candidates
from retrank.ops.prepared_candidates import PreparedCandidates, prepare_candidates
from retrank.ops.score_checks import RowLists, as_float32, check_finite

__all__ = ["Exact"]

_FORMAT: Final = {"format": "retrank.index.exact", "version": 2}
_EMBEDDINGS_FILE: Final = "index.safetensors"


@final
class Exact(Index):
    """An index that scores every candidate.

    The memory of a search does not depend on the length of the exclusions, and a query's result, to the last bit, does
    not depend on the batch in which it came.

    Args:
        embeddings: `(num_candidates, dim)` float32, float16 or bfloat16; kept in float32 on their device.
        keys: raw keys in row order, all integers or all strings; row numbers by default.

    Raises:
        ShapeError: embeddings of another shape or dtype.
        DataError: embeddings that are not finite; keys that are null, of mixed kinds or not distinct.

    Example:
        >>> import torch, retrank as rr
        >>> index = rr.index.Exact(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), keys=["a", "b", "c"])
        >>> scores, keys = index.search(torch.tensor([[2.0, 1.0]]), k=2)
        >>> scores.tolist(), keys.tolist()
        ([[3.0, 2.0]], [['c', 'a']])
        >>> seen = rr.Jagged.from_lists([[2]])
        >>> index.search(torch.tensor([[2.0, 1.0]]), k=3, exclude=seen).keys.tolist()
        [['a', 'b', None]]

    Source: `BruteForce` of TensorFlow Recommenders and Keras-RS.
    """

    saved_as = "retrank.index.exact"

    def __init__(self, embeddings: Tensor, keys: KeysLike | None = None) -> None:
        self._blocks = prepare_candidates(embeddings)
        if not bool(self._blocks.largest.isfinite()):
            check_finite(embeddings, "embeddings")
        self._keys = raw_keys(keys, self.num_candidates)

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
        return self._blocks.num_candidates

    def embeddings(self, rows: Tensor) -> Tensor:
        """Return `(n, dim)` float32 embeddings of some candidates, a copy.

        Args:
            rows: `(n,)` int64 in `[0, num_candidates)`.
        """
        return self._blocks.take(rows)

    def search_rows(
        self, queries: Tensor, k: int, *, exclude: RowLists | None = None, allow: Allowed | None = None
    ) -> SearchResult:
        """Find the best candidates as rows; see `Index.search_rows`.

        Args:
            queries: `(batch, dim)` on the device of the embeddings.
            k: how many, at most `num_candidates`.
            exclude: one list per query of candidate rows that must not be returned.
            allow: the only candidates that may be returned. The cheapest form is a bool mask `(num_candidates,)`: it
                costs nothing that one can measure.

        Returns:
            Scores and rows, `(batch, k)` each, best first, ties in row order.
        """
        self._check_k(k)
        return SearchResult(*best_candidates(queries, self._blocks, k, exclude=exclude, allow=allow))

    def with_added(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index with more candidates; all embeddings are copied once, so add many at a time.

        Args:
            embeddings: `(num_added, dim)` on the device of the others.
            keys: theirs, none of them in the index yet.

        Returns:
            Another index.

        Raises:
            ShapeError: embeddings that do not fit.
            DataError: a bad embedding, or a key that is in the index.

        Example:
            >>> import torch, retrank as rr
            >>> index = rr.index.Exact(torch.tensor([[1.0], [2.0]]), keys=["a", "b"])
            >>> larger = index.with_added(torch.tensor([[3.0]]), ["c"])
            >>> other = larger.with_updated(torch.tensor([[4.0]]), ["a"]).without(["b"])
            >>> other.search(torch.tensor([[1.0]]), k=2)
            KeyedResult(scores=tensor([[4., 3.]]), keys=array([['a', 'c']], dtype=object))
            >>> index.num_candidates
            2
        """
        embeddings = self._fitting(embeddings)
        all_keys = appended(self._keys, keys, len(embeddings))
        return self._like(self._blocks.with_added(embeddings), all_keys) if len(embeddings) else self

    def with_updated(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index in which some candidates have other embeddings; see `Index.with_updated`.

        Args:
            embeddings: `(num_updated, dim)` on the device of the others; all are copied once.
            keys: whose they are, distinct.

        Returns:
            Another index.
        """
        embeddings = self._fitting(embeddings)
        rows = rows_to_change(self._keys, keys, len(embeddings)).to(embeddings.device)
        return self._like(self._blocks.with_updated(rows, embeddings), self._keys) if len(rows) else self

    def rebuilt(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an exact index over other candidates; see `Index.rebuilt`."""
        return type(self)(embeddings, keys)

    def without(self, keys: KeysLike) -> Self:
        """Return an index that lacks some candidates; see `Index.without`. The other embeddings are copied once.

        Args:
            keys: distinct.

        Returns:
            Another index.
        """
        kept = rows_left(self._keys, keys)
        if len(kept) == self.num_candidates:
            return self
        return self._like(self._blocks.only(kept.to(self._blocks.device)), keys_of(self._keys, kept))

    def save(self, directory: str | Path) -> None:
        """Write embeddings (safetensors), keys (Parquet) and a manifest with checksums.

        Args:
            directory: replaced as a whole if it exists.
        """
        with atomic_directory(directory) as draft:
            write_embeddings(draft / _EMBEDDINGS_FILE, self._blocks.candidates)
            write_keys(draft / KEYS_FILE, self._keys)
            write_manifest(draft, _FORMAT)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Read an index; see `Index.from_snapshot`.

        Args:
            snapshot: what `save` wrote.

        Returns:
            An index with the same results, on the CPU.

        Raises:
            StorageError: files missing, damaged or of another kind.
        """
        check_format(snapshot, _FORMAT)
        return cls(read_embeddings(snapshot, _EMBEDDINGS_FILE), read_keys(snapshot)[0])

    def _fitting(self, embeddings: Tensor) -> Tensor:
        embeddings = as_float32(embeddings, "embeddings")
        if embeddings.shape[1] != self._blocks.dim or embeddings.device != self._blocks.device:
            raise ShapeError(
                f"shape (rows, {self._blocks.dim}) on {self._blocks.device}",
                f"{tuple(embeddings.shape)} on {embeddings.device}",
                "embeddings",
                "give embeddings like those of the index",
            )
        check_finite(embeddings, "embeddings")
        return embeddings

    def _like(self, blocks: PreparedCandidates, keys: RawKeys) -> Self:
        other = type(self).__new__(type(self))
        other._blocks, other._keys = blocks, keys
        return other
