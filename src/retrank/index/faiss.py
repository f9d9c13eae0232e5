"""`Faiss`: the best candidates found without scoring all, by the indexes of the Faiss library."""

from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.directories import atomic_directory
from retrank.core.errors import ConfigError, DataError, ShapeError, StorageError
from retrank.core.extras import optional
from retrank.core.files import write_json
from retrank.core.jagged import Jagged
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import Snapshot
from retrank.core.values import checked
from retrank.index.blocks import as_float32, check_finite
from retrank.index.faiss_files import parse_faiss, write_faiss
from retrank.index.keys import KeysLike, RawKeys, appended, keys_of, raw_keys, rows_left, rows_to_change
from retrank.index.pairs import PairFilter
from retrank.index.protocol import Index, SearchResult
from retrank.index.storage import KEYS_FILE, check_format, read_embeddings, read_keys, write_embeddings, write_keys
from retrank.ops.top_k import merge, nothing, pack, unpack

__all__ = ["Faiss"]

_FORMAT: Final = {"format": "retrank.index.faiss", "version": 2}
_INDEX_FILE: Final = "index.faiss"
_SETTINGS_FILE: Final = "settings.json"
_EMBEDDINGS_FILE: Final = "embeddings.safetensors"
_LISTS: Final = ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")
_GRAPHS: Final = ("IndexHNSWFlat", "IndexHNSWSQ")
_WHOLE: Final = ("IndexIVFFlat", "IndexHNSWFlat")  # hold embeddings, not codes
_MAX_OVERFETCH: Final = (
    1024  # exclusions that are fetched in excess and dropped; longer lists are looked up in the search
)


class _Settings(TypedDict):
    factory: str
    effort: int
    rescore: int | None


@final
class Faiss(Index):
    """An approximate index: fast on large catalogues, and it may miss some of the best. `evaluate` says how many.

    Exclusions and allow-lists always hold, and a search returns fewer than k candidates only where fewer are allowed:
    where the fast search does not find enough, and for allow-lists of up to 1024, all allowed candidates are scored.
    Scores are those of the stored codes, so they are rounded with `PQ` and `SQ`, and so is the order; with `rescore`
    both are exact among what was found. Equal scores come in row order among what was found.

    Args:
        embeddings: `(num_candidates, dim)` float32, float16 or bfloat16; also what the index is trained on (Faiss wants
            39 candidates for each list, and for each of the 256 centroids of `PQ`).
        keys: raw keys in row order, all integers or all strings; row numbers by default.
        factory: the structure, in the words of `faiss.index_factory`: `"HNSW32"` (a graph; fast, needs most memory,
            cannot update or remove), `"HNSW32,SQ8"`, `"IVF256,Flat"` (lists), `"IVF256,PQ16"`, `"IVF256,SQ8"` (lists of
            codes), and `"PQ16"`, `"SQ8"`, `"Flat"`, which look at everything: they are lists with one list.
        effort: lists that are searched, or candidates of the graph that are followed: more is slower and finds more.
            It can be changed between searches.
        rescore: for `PQ` and `SQ`: find `rescore * k` candidates by their codes and keep the k best by their
            embeddings, which the index then holds besides (4 bytes a number). It can be changed between searches, also
            to None, which trusts the codes; an index that was built with None cannot start to rescore.

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
        >>> codes.rescore = 1
        >>> rescored > 0.9 > codes.evaluate(embeddings[:50], k=10, exact=rr.index.Exact(embeddings))
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
        self.effort, self._factory = effort, factory
        self._faiss = optional("faiss", extra="ann")
        self._index = _built(self._faiss, vectors.numpy(), factory)
        self._originals = None if rescore is None else vectors.clone()
        self.rescore = rescore
        self._labels = torch.arange(len(vectors))  # Faiss's number of each row: ascending, with gaps after removals
        self._insert(vectors, self._labels)

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
        return len(self._labels)

    @property
    def effort(self) -> int:
        """Lists that are searched, or candidates of the graph that are followed."""
        return self._effort

    @effort.setter
    def effort(self, effort: int) -> None:
        if effort < 1:
            raise ConfigError("effort >= 1", str(effort), "Faiss", "search at least one list")
        self._effort = effort

    @property
    def rescore(self) -> int | None:
        """How many candidates are scored exactly for each that is asked for; None trusts the codes."""
        return self._rescore

    @rescore.setter
    def rescore(self, rescore: int | None) -> None:
        if rescore is not None and type(self._index).__name__ in _WHOLE:
            raise ConfigError(
                "a structure of codes (PQ or SQ) to rescore",
                f"'{self._factory}', whose scores are exact",
                "Faiss(rescore=...)",
                "leave rescore out, and raise effort to find more",
            )
        if rescore is not None and self._originals is None:
            raise ConfigError(
                "embeddings to rescore by", "codes alone", "Faiss.rescore", "build the index with Faiss(rescore=...)"
            )
        if rescore is not None and rescore < 1:
            raise ConfigError("rescore >= 1 or None", str(rescore), "Faiss(rescore=...)", "4 is a good start")
        self._rescore = rescore

    def search_ids(
        self, queries: Tensor, k: int, *, exclude: Jagged | None = None, allow: Jagged | None = None
    ) -> SearchResult:
        """Find good candidates as rows; see `Index.search_ids`.

        Args:
            queries: `(batch, dim)` on any device.
            k: how many, at most `num_candidates`.
            exclude: candidate rows that must not be returned.
            allow: the only candidate rows that may be returned, one row a query or one row for all.

        Returns:
            Scores and rows, `(batch, k)` each on the device of the queries, best first.
        """
        self._check_k(k)
        vectors = self._fitting(queries, "queries")
        rules = PairFilter(self.num_candidates, len(vectors), exclude, allow)
        found = nothing(len(vectors), k, torch.device("cpu"))
        if not rules.has_own_lists:
            self._search_together(found, vectors, k, rules)
        wanted, depth = rules.num_left.clamp(max=k), self._depth(k)
        for query in (_num_found(found) < wanted).nonzero()[:, 0].tolist():
            selector, vector = self._selector(*rules.of(query)), vectors[query : query + 1]
            place, empty = found[query : query + 1], nothing(1, k, found.device)
            if rules.are_few(query):
                place[:] = merge(empty, self._thorough(vector, int(rules.num_left[query]), selector))
                continue
            place[:] = merge(empty, self._fast(vector, depth, selector))
            if int(_num_found(place)) < int(wanted[query]):
                place[:] = merge(empty, self._thorough(vector, depth, selector))
        scores, rows = unpack(found)
        return SearchResult(scores.to(queries.device), rows.to(queries.device))

    def add(self, embeddings: Tensor, keys: KeysLike) -> None:
        """Add candidates behind the last; lists and codes stay as they were trained.

        Args:
            embeddings: `(num_added, dim)`.
            keys: theirs, none of them in the index yet.
        """
        vectors = self._fitting(embeddings, "embeddings")
        self._keys = appended(self._keys, keys, len(vectors))
        labels = int(self._labels[-1]) + 1 + torch.arange(len(vectors))
        self._insert(vectors, labels)
        self._labels = torch.cat([self._labels, labels])
        if self._originals is not None:
            self._originals = torch.cat([self._originals, vectors])

    def update(self, embeddings: Tensor, keys: KeysLike) -> None:
        """Give candidates other embeddings; see `Index.update`.

        Args:
            embeddings: `(num_updated, dim)`.
            keys: whose they are, distinct.

        Raises:
            ConfigError: the structure is a graph.
        """
        self._check_lists("update")
        vectors = self._fitting(embeddings, "embeddings")
        rows = rows_to_change(self._keys, keys, len(vectors))
        self._index.remove_ids(self._faiss.IDSelectorBatch(self._labels[rows].numpy()))
        self._insert(vectors, self._labels[rows])
        if self._originals is not None:
            self._originals[rows] = vectors

    def remove(self, keys: KeysLike) -> None:
        """Remove candidates; see `Index.remove`.

        Args:
            keys: distinct.

        Raises:
            ConfigError: the structure is a graph.
        """
        self._check_lists("remove")
        kept = rows_left(self._keys, keys)
        gone = self._labels[rows_to_change(self._keys, keys)]
        self._index.remove_ids(self._faiss.IDSelectorBatch(gone.numpy()))
        self._labels, self._keys = self._labels[kept], keys_of(self._keys, kept)
        if self._originals is not None:
            self._originals = self._originals[kept]

    def save(self, directory: str | Path) -> None:
        """Write Faiss's own file, embeddings to rescore by (safetensors), keys (Parquet), settings (JSON), checksums.

        Args:
            directory: replaced as a whole if it exists.
        """
        with atomic_directory(directory) as draft:
            write_faiss(self._faiss, self._index, draft / _INDEX_FILE)
            write_keys(draft / KEYS_FILE, self._keys, label=pl.Series(self._labels.numpy()))
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
        self._faiss = optional("faiss", extra="ann")
        settings = checked(snapshot.json(_SETTINGS_FILE), _Settings, snapshot.where(_SETTINGS_FILE))
        self._factory, self.effort = settings["factory"], settings["effort"]
        self._keys, table = read_keys(snapshot)
        self._labels = _labels(table, snapshot.where(KEYS_FILE))
        file = snapshot.where(_INDEX_FILE)
        self._index = parse_faiss(self._faiss, snapshot.read(_INDEX_FILE), file)
        if type(self._index).__name__ not in _LISTS + _GRAPHS or self._index.ntotal != len(self._labels):
            raise StorageError(f"{len(self._labels)} candidates", "another index", file, "save the index anew")
        self._originals = read_embeddings(snapshot, _EMBEDDINGS_FILE) if _EMBEDDINGS_FILE in snapshot else None
        if self._originals is not None and self._originals.shape != (len(self._labels), self._index.d):
            where = snapshot.where(_EMBEDDINGS_FILE)
            raise StorageError(f"{len(self._labels)} embeddings", "others", where, "save the index anew")
        self.rescore = settings["rescore"]
        return self

    @property
    def _is_graph(self) -> bool:
        return type(self._index).__name__ in _GRAPHS

    def _depth(self, k: int) -> int:
        return min(k * (self.rescore or 1), self.num_candidates)

    def _search_together(self, found: Tensor, vectors: Tensor, k: int, rules: PairFilter) -> None:
        """Search for all queries at once, for as many candidates more than k as a query excludes."""
        everyone = torch.arange(len(vectors))
        selector = None if rules.shared is None else self._selector(rules.shared, True)
        if rules.shared is not None and rules.shares_few:
            depth = max(1, len(rules.shared))
            found[:] = merge(found, rules.without_excluded(everyone, self._thorough(vectors, depth, selector)))
            return
        excess = torch.where(rules.num_excluded > 0, 2 ** rules.num_excluded.double().log2().ceil(), 0).long()
        for more in torch.unique(excess[rules.num_excluded <= _MAX_OVERFETCH]).tolist():
            queries, depth = everyone[excess == more], min(self._depth(k) + more, self.num_candidates)
            fetched = self._fast(vectors[queries], depth, selector)
            found[queries] = merge(found[queries], rules.without_excluded(queries, fetched) if more else fetched)

    def _fast(self, vectors: Tensor, k: int, selector: Any) -> Tensor:
        if self._is_graph:
            settings = self._faiss.SearchParametersHNSW(efSearch=max(self.effort, k), **_chosen(selector))
        else:
            lists = min(self.effort, self._index.nlist)
            settings = self._faiss.SearchParametersIVF(nprobe=lists, **_chosen(selector))
        return self._packed(vectors, *self._index.search(vectors.numpy(), k, params=settings))

    def _thorough(self, vectors: Tensor, k: int, selector: Any) -> Tensor:
        if self._is_graph:
            everything = self._faiss.downcast_index(self._index.storage)
            settings = self._faiss.SearchParameters(**_chosen(selector))
            return self._packed(vectors, *everything.search(vectors.numpy(), k, params=settings))
        settings = self._faiss.SearchParametersIVF(nprobe=self._index.nlist, **_chosen(selector))
        return self._packed(vectors, *self._index.search(vectors.numpy(), k, params=settings))

    def _packed(self, vectors: Tensor, scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Tensor:
        found, places = torch.from_numpy(labels), torch.from_numpy(scores)
        there = found >= 0
        _check_scores(places[there])
        rows = torch.searchsorted(self._labels, found.clamp(min=0))
        if self._originals is not None and self.rescore is not None:
            places = self._scored_exactly(vectors, self._originals, rows)
            _check_scores(places[there])
        return pack(places.masked_fill(~there, -torch.inf), rows)

    def _scored_exactly(self, vectors: Tensor, candidates: Tensor, rows: Tensor) -> Tensor:
        """Return the dot product of each query with its rows, one pair at a time: nothing is gathered."""
        scores = torch.empty(rows.shape)
        tensors = (scores, vectors, candidates, rows)
        pointers = [self._faiss.swig_ptr(tensor.numpy()) for tensor in tensors]
        self._faiss.fvec_inner_products_by_idx(*pointers, vectors.shape[1], *rows.shape)
        return scores

    def _selector(self, rows: Tensor, are_allowed: bool) -> Any:
        selector = self._faiss.IDSelectorBatch(self._labels[rows].numpy())
        return selector if are_allowed else self._faiss.IDSelectorNot(selector)

    def _insert(self, vectors: Tensor, labels: Tensor) -> None:
        if self._is_graph:
            self._index.add(vectors.numpy())  # numbered in the order of their coming, and none is ever removed
        else:
            self._index.add_with_ids(vectors.numpy(), labels.numpy())

    def _fitting(self, vectors: Tensor, where: str) -> Tensor:
        vectors = as_float32(vectors, where).cpu().contiguous()
        if vectors.shape[1] != self._index.d:
            raise ShapeError(
                f"shape (rows, {self._index.d})", f"{tuple(vectors.shape)}", where, "use one dim for all embeddings"
            )
        check_finite(vectors, where)
        return vectors

    def _check_lists(self, change: str) -> None:
        if self._is_graph:
            raise ConfigError(
                "a structure of lists, e.g. 'IVF256,Flat'",
                f"'{self._factory}', a graph",
                f"Faiss.{change}",
                "build the index anew, or choose another structure",
            )


def _labels(table: pl.DataFrame, where: str) -> Tensor:
    labels = table["label"] if "label" in table.columns else pl.Series("label", dtype=pl.Null)
    if labels.dtype != pl.Int64 or labels.null_count() or (labels.diff() <= 0).any() or (labels < 0).any():
        raise StorageError("ascending integer labels", str(labels.dtype), where, "save the index anew")
    return torch.from_numpy(labels.to_numpy(writable=True))


def _built(faiss: Any, vectors: npt.NDArray[np.float32], factory: str) -> Any:
    name = factory if factory.startswith(("IVF", "HNSW")) else f"IVF1,{factory}"
    try:
        index = faiss.index_factory(vectors.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        if type(index).__name__ not in _LISTS + _GRAPHS:
            raise ConfigError(
                "HNSW, IVF, PQ, SQ or Flat, e.g. 'IVF256,PQ16'", f"'{factory}'", "Faiss(factory=...)", "choose another"
            )
        for trained in (index, getattr(index, "pq", index)):
            if hasattr(trained, "cp"):
                trained.cp.min_points_per_centroid = 1  # else Faiss prints its advice
        if hasattr(index, "do_polysemous_training"):
            index.do_polysemous_training = False  # slow annealing for a filter that is not used here
        index.train(vectors)
    except RuntimeError as error:
        raise ConfigError(
            f"a structure for {vectors.shape[0]} candidates of dim {vectors.shape[1]}",
            f"'{factory}': {_reason(error)}",
            "Faiss(factory=...)",
            "use fewer lists, or Exact for a small catalogue",
        ) from error
    return index


def _check_scores(scores: Tensor) -> None:
    if not bool(scores.isfinite().all()):
        raise DataError("finite scores", "an overflow of float32", "queries", "check the model's output")


def _chosen(selector: Any) -> dict[str, Any]:
    return {} if selector is None else {"sel": selector}


def _num_found(packed: Tensor) -> Tensor:
    return (unpack(packed)[1] >= 0).sum(dim=1)


def _reason(error: RuntimeError) -> str:
    return str(error).rpartition("Error: ")[2].strip()
