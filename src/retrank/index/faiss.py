"""`Faiss`: the best candidates found without scoring all, by the indexes of the Faiss library."""

import copy
from pathlib import Path
from typing import Final, Self, final

import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.directories import atomic_directory
from retrank.core.errors import ConfigError, ShapeError, StorageError
from retrank.core.extras import optional
from retrank.core.files import write_json
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import Snapshot
from retrank.core.values import checked
from retrank.index.faiss_search import FaissSearch
from retrank.index.faiss_structure import Structure
from retrank.index.index import Index, SearchResult
from retrank.index.keys import KeysLike, RawKeys, appended, keys_of, raw_keys, rows_left, rows_to_change
from retrank.index.post_filter import PostFilter
from retrank.index.storage import KEYS_FILE, check_format, read_embeddings, read_keys, write_embeddings, write_keys
from retrank.ops.best_candidates import Allowed
from retrank.ops.score_checks import RowLists, as_float32, check_finite

__all__ = ["Faiss"]

_FORMAT: Final = {"format": "retrank.index.faiss", "version": 2}
_SETTINGS_FILE: Final = "settings.json"
_EMBEDDINGS_FILE: Final = "embeddings.safetensors"
_STRUCTURE_FILE: Final = "index.faiss"
_SPARE: Final = 16  # candidates beyond k, so that those that tie for the last place are there to be put in order


class _Settings(TypedDict):
    factory: str
    effort: int
    rescore: int | None


@final
class Faiss(Index):
    """An approximate index: fast on large catalogues, and it may miss some of the best. `evaluate` says how many.

    Exclusions and allow-lists always hold, and a search returns fewer than k candidates only where fewer are allowed:
    where the fast search does not find enough, and for short allow-lists (of 1024, with `rescore` of thousands), all
    allowed candidates are scored. For longer ones more lists are searched, the more candidates they leave out.

    Faiss finds candidates; their scores and order are the library's own. Where the structure holds embeddings, or with
    `rescore`, a score is to the bit what `Exact` gives the same pair. Else it is that of the stored code, rounded with
    `PQ` and `SQ`, and so is the order. Equal vectors have equal scores, and come in row order among what was found.

    Args:
        embeddings: `(num_candidates, dim)` float32, float16 or bfloat16; also what the index is trained on (Faiss wants
            39 candidates for each list, and for each of the 256 centroids of `PQ`).
        keys: raw keys in row order, all integers or all strings; row numbers by default.
        factory: the structure, in the words of `faiss.index_factory`: `"HNSW32"` (a graph; fast, needs most memory,
            cannot update or remove), `"HNSW32,SQ8"`, `"IVF256,Flat"` (lists), `"IVF256,PQ16"`, `"IVF256,SQ8"` (lists of
            codes), and `"PQ16"`, `"SQ8"`, `"Flat"`, which look at everything: they are lists with one list.
        effort: lists that are searched, or candidates of the graph that are followed: more is slower and finds more.
            See `with_effort`.
        rescore: for `PQ` and `SQ`: find `rescore * k` candidates by their codes and keep the k best by their
            embeddings, which the index then holds besides (4 bytes per number). None trusts the codes. See
            `with_rescore`.

    Raises:
        MissingExtraError: Faiss is not installed.
        ConfigError: a structure that is not one of these or does not fit the embeddings, or too few to train it.
        ShapeError: embeddings of another shape or dtype.
        DataError: embeddings that are not finite, or bad keys.

    Example:
        >>> import torch, retrank as rr
        >>> embeddings = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
        >>> index = rr.index.Faiss(embeddings, factory="IVF16,Flat", effort=16)
        >>> index.evaluate(embeddings[:50], k=10, exact=rr.index.Exact(embeddings))
        1.0
        >>> codes = rr.index.Faiss(embeddings, factory="PQ8x4", rescore=8)
        >>> rescored = codes.evaluate(embeddings[:50], k=10, exact=rr.index.Exact(embeddings))
        >>> trusting = codes.with_rescore(None)
        >>> rescored > 0.9 > trusting.evaluate(embeddings[:50], k=10, exact=rr.index.Exact(embeddings))
        True

    Source: Douze et al., "The Faiss library", 2024; Malkov and Yashunin, "Efficient and robust approximate nearest
        neighbor search using Hierarchical Navigable Small World graphs", 2018; Jegou et al., "Product quantization for
        nearest neighbor search", 2011. A graph that several threads build can differ from run to run.
    """

    saved_as = "retrank.index.faiss"

    def __init__(
        self,
        embeddings: Tensor,
        keys: KeysLike | None = None,
        *,
        factory: str = "HNSW32",
        effort: int = 64,
        rescore: int | None = None,
    ) -> None:
        vectors = as_float32(embeddings, "embeddings").cpu().contiguous()
        if len(vectors) == 0:
            raise ShapeError("at least one candidate", "none", "embeddings", "give the embeddings of the catalogue")
        check_finite(vectors, "embeddings")
        self._keys = raw_keys(keys, len(vectors))
        self._effort, self._factory = _checked_effort(effort), factory
        self._structure = Structure.build(optional("faiss", extra="ann"), vectors, factory)
        self._originals = None if rescore is None else vectors.clone()
        self._rescore = self._checked_rescore(rescore)

    @property
    def is_exact(self) -> bool:
        """False."""
        return False

    @property
    def keys(self) -> RawKeys:
        """The raw keys in row order: `(num_candidates,)` int64 tensor or array of `str`."""
        return self._keys

    @property
    def num_candidates(self) -> int:
        """How many candidates there are."""
        return self._structure.num_candidates

    @property
    def effort(self) -> int:
        """Lists that are searched, or candidates of the graph that are followed."""
        return self._effort

    @property
    def rescore(self) -> int | None:
        """How many candidates are scored exactly for each that is asked for; None trusts the codes."""
        return self._rescore

    def with_effort(self, effort: int) -> Self:
        """Return the same index with another effort; they share everything else.

        Args:
            effort: lists that are searched, or candidates of the graph that are followed.

        Returns:
            Another index.

        Raises:
            ConfigError: it is below 1.
        """
        other = copy.copy(self)
        other._effort = _checked_effort(effort)
        return other

    def with_rescore(self, rescore: int | None) -> Self:
        """Return the same index with another depth of rescoring; they share everything else.

        Args:
            rescore: candidates that are scored exactly for each that is asked for; None trusts the codes.

        Returns:
            Another index.

        Raises:
            ConfigError: it is below 1, the structure's scores are exact already, or the index was built with
                `rescore=None`, and so without the embeddings.
        """
        other = copy.copy(self)
        other._rescore = self._checked_rescore(rescore)
        return other

    def search_rows(
        self, queries: Tensor, k: int, *, exclude: RowLists | None = None, allow: Allowed | None = None
    ) -> SearchResult:
        """Find good candidates as rows; see `Index.search_rows`.

        Args:
            queries: `(batch, dim)` on any device.
            k: how many, at most `num_candidates`.
            exclude: one list per query of candidate rows that must not be returned.
            allow: the only candidates that may be returned.

        Returns:
            Scores and rows, `(batch, k)` each on the device of the queries, best first.
        """
        self._check_k(k)
        vectors = self._fitting(queries, "queries")
        rules = PostFilter(self.num_candidates, len(vectors), exclude, allow)
        depth = min(k * self._rescore if self._rescore else k + _SPARE, self.num_candidates)
        embeddings = None if self._rescore is None else self._originals
        scores, rows = FaissSearch(self._structure, self._effort, depth, embeddings).run(vectors, k, rules)
        return SearchResult(scores.to(queries.device), rows.to(queries.device))

    def with_added(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index with more candidates; the structure is copied, its lists and codes stay as they were trained.

        Args:
            embeddings: `(num_added, dim)`.
            keys: theirs, none of them in the index yet.

        Returns:
            Another index.
        """
        vectors = self._fitting(embeddings, "embeddings")
        other = copy.copy(self)
        other._keys = appended(self._keys, keys, len(vectors))
        other._structure = self._structure.with_added(vectors)
        if self._originals is not None:
            other._originals = torch.cat([self._originals, vectors])
        return other

    def with_updated(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index in which some candidates have other embeddings; see `Index.with_updated`.

        Args:
            embeddings: `(num_updated, dim)`.
            keys: whose they are, distinct.

        Returns:
            Another index.

        Raises:
            ConfigError: the structure is a graph.
        """
        self._check_lists("with_updated")
        vectors = self._fitting(embeddings, "embeddings")
        rows, other = rows_to_change(self._keys, keys, len(vectors)), copy.copy(self)
        other._structure = self._structure.with_updated(vectors, rows)
        if self._originals is not None:
            other._originals = self._originals.index_copy(0, rows, vectors)
        return other

    def rebuilt(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index with the same settings, trained anew; see `Index.rebuilt`."""
        return type(self)(embeddings, keys, factory=self._factory, effort=self._effort, rescore=self._rescore)

    def without(self, keys: KeysLike) -> Self:
        """Return an index that lacks some candidates; see `Index.without`.

        Args:
            keys: distinct.

        Returns:
            Another index.

        Raises:
            ConfigError: the structure is a graph.
        """
        self._check_lists("without")
        kept, other = rows_left(self._keys, keys), copy.copy(self)
        other._keys, other._structure = keys_of(self._keys, kept), self._structure.only(kept)
        if self._originals is not None:
            other._originals = self._originals[kept]
        return other

    def save(self, directory: str | Path) -> None:
        """Write Faiss's own file, embeddings to rescore by (safetensors), keys (Parquet), settings (JSON), checksums.

        Args:
            directory: replaced as a whole if it exists.
        """
        with atomic_directory(directory) as draft:
            self._structure.write(draft / _STRUCTURE_FILE)
            write_keys(draft / KEYS_FILE, self._keys)
            settings = {"factory": self._factory, "effort": self.effort, "rescore": self.rescore}
            write_json(draft / _SETTINGS_FILE, settings)
            if self._originals is not None:
                write_embeddings(draft / _EMBEDDINGS_FILE, self._originals)
            write_manifest(draft, _FORMAT)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Read an index; see `Index.from_snapshot`.

        Args:
            snapshot: what `save` wrote.

        Returns:
            An index with the same results.

        Raises:
            MissingExtraError: Faiss is not installed.
            StorageError: files missing, damaged or of another kind.
        """
        check_format(snapshot, _FORMAT)
        self = cls.__new__(cls)
        settings = checked(snapshot.json(_SETTINGS_FILE), _Settings, snapshot.where(_SETTINGS_FILE))
        self._factory, self._effort = settings["factory"], _checked_effort(settings["effort"])
        self._keys, table = read_keys(snapshot)
        ids = _ids(table, snapshot.where(KEYS_FILE))
        content, where = snapshot.read(_STRUCTURE_FILE), snapshot.where(_STRUCTURE_FILE)
        self._structure = Structure.parse(optional("faiss", extra="ann"), content, ids, where)
        self._originals = read_embeddings(snapshot, _EMBEDDINGS_FILE) if _EMBEDDINGS_FILE in snapshot else None
        if self._originals is not None and self._originals.shape != (self.num_candidates, self._structure.dim):
            where = snapshot.where(_EMBEDDINGS_FILE)
            raise StorageError(f"{self.num_candidates} embeddings", "others", where, "save the index anew")
        self._rescore = self._checked_rescore(settings["rescore"])
        return self

    def _fitting(self, vectors: Tensor, where: str) -> Tensor:
        vectors = as_float32(vectors, where).cpu().contiguous()
        dim = self._structure.dim
        if vectors.shape[1] != dim:
            raise ShapeError(f"shape (rows, {dim})", f"{tuple(vectors.shape)}", where, "use one dim for all embeddings")
        check_finite(vectors, where)
        return vectors

    def _checked_rescore(self, rescore: int | None) -> int | None:
        if rescore is None:
            return None
        if self._structure.is_whole:
            raise ConfigError(
                "a structure of codes (PQ or SQ) to rescore",
                f"'{self._factory}', whose scores are exact",
                "Faiss(rescore=...)",
                "leave rescore out, and raise effort to find more",
            )
        if self._originals is None:
            raise ConfigError(
                "embeddings to rescore by", "codes alone", "with_rescore", "build the index with Faiss(rescore=...)"
            )
        if not isinstance(rescore, int) or rescore < 1:
            raise ConfigError("rescore >= 1 or None", repr(rescore), "Faiss(rescore=...)", "4 is a good start")
        return rescore

    def _check_lists(self, change: str) -> None:
        if self._structure.is_graph:
            raise ConfigError(
                "a structure of lists, e.g. 'IVF256,Flat'",
                f"'{self._factory}', a graph",
                f"Faiss.{change}",
                "build the index anew, or choose another structure",
            )


def _ids(table: pl.DataFrame, where: str) -> Tensor:
    """Return what Faiss calls each row, which earlier versions wrote down."""
    if "label" not in table.columns:
        return torch.arange(len(table))
    ids = table["label"]
    if ids.dtype != pl.Int64 or ids.null_count() or (ids.diff() <= 0).any() or (ids < 0).any():
        raise StorageError("ascending integer labels", str(ids.dtype), where, "save the index anew")
    return torch.from_numpy(ids.to_numpy(writable=True))


def _checked_effort(effort: int) -> int:
    if not isinstance(effort, int) or effort < 1:
        raise ConfigError("effort >= 1", repr(effort), "Faiss", "search at least one list")
    return effort
