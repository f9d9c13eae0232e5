"""A structure of the Faiss library as a value: which rows may be good, and what it stores of them."""

from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, StorageError
from retrank.index.faiss_files import faiss_reason, parse_faiss, write_faiss
from retrank.ops.best_candidates import best_candidates
from retrank.ops.prepared_candidates import PreparedCandidates, prepare_candidates

__all__ = ["Structure"]

_LISTS: Final = ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")
_GRAPHS: Final = ("IndexHNSWFlat", "IndexHNSWSQ")
_FLAT: Final = ("IndexFlat", "IndexFlatIP")
_BY_QUERY: Final = 3  # threads share queries, never the lists of one query
_WHOLE: Final = ("IndexIVFFlat", "IndexHNSWFlat")  # hold embeddings, not codes


@final
class Structure:
    """Lists or a graph of Faiss, whose ids are rows; changes return others.

    Args:
        faiss: the library.
        index: one of its indexes.
    """

    def __init__(self, faiss: Any, index: Any) -> None:
        self._faiss, self._index = faiss, index
        if not self.is_graph:
            self._index.parallel_mode = _BY_QUERY

    @cached_property
    def _centres(self) -> PreparedCandidates | None:
        """The centres of lists, to choose lists by our own scores; None if a graph leads to the lists.

        Faiss rounds the scores of many queries otherwise than those of a few, and a query would now and then get other
        lists alone than among others.
        """
        quantizer = self._faiss.downcast_index(self._index.quantizer)
        if self.is_graph or type(quantizer).__name__ not in _FLAT:
            return None
        return prepare_candidates(torch.from_numpy(quantizer.reconstruct_n(0, self._index.nlist)))

    @classmethod
    def build(cls, faiss: Any, embeddings: Tensor, factory: str) -> Self:
        """Train a structure on embeddings, and put them in.

        Args:
            faiss: the library.
            embeddings: `(num_candidates, dim)` float32.
            factory: in the words of `faiss.index_factory`.

        Returns:
            All of them.

        Raises:
            ConfigError: a structure that is not supported or does not fit the embeddings.
        """
        vectors = embeddings.numpy()
        name = factory if factory.startswith(("IVF", "HNSW")) else f"IVF1,{factory}"
        try:
            index = faiss.index_factory(vectors.shape[1], name, faiss.METRIC_INNER_PRODUCT)
            if type(index).__name__ not in _LISTS + _GRAPHS:
                raise ConfigError(
                    "HNSW, IVF, PQ, SQ or Flat, e.g. 'IVF256,PQ16'",
                    f"'{factory}'",
                    "Faiss(factory=...)",
                    "choose another",
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
                f"'{factory}': {faiss_reason(error)}",
                "Faiss(factory=...)",
                "use fewer lists, or Exact for a small catalogue",
            ) from error
        self = cls(faiss, index)
        self._index.add(vectors)
        self._map_rows()
        return self

    @classmethod
    def parse(cls, faiss: Any, content: bytes, ids: Tensor, where: str) -> Self:
        """Read what `write` wrote.

        Args:
            faiss: the library.
            content: of the file.
            ids: `(num_candidates,)` int64, ascending: what each row is called in the file, by itself in those of today.
            where: the file, for messages.

        Returns:
            The structure.

        Raises:
            StorageError: not an index of Faiss, or another one.
        """
        index = parse_faiss(faiss, content, where)
        if type(index).__name__ not in _LISTS + _GRAPHS or index.ntotal != len(ids):
            raise StorageError(f"{len(ids)} candidates", "another index", where, "save the index anew")
        self = cls(faiss, index)
        if not self._names_rows(ids):
            raise StorageError(f"each of {len(ids)} candidates once", "others", where, "save the index anew")
        if not self.is_graph:
            self._renumber(ids)
            self._map_rows()
        return self

    def write(self, file: Path) -> None:
        """Write Faiss's own file.

        Args:
            file: to write.
        """
        written = self
        if not self.is_graph:
            written = self._copy()
            written._forget_rows()  # `parse` finds them again
        write_faiss(self._faiss, written._index, file)

    @property
    def is_graph(self) -> bool:
        """Whether it is a graph, from which nothing can be taken out."""
        return type(self._index).__name__ in _GRAPHS

    @property
    def is_whole(self) -> bool:
        """Whether it holds the embeddings themselves, not codes."""
        return type(self._index).__name__ in _WHOLE

    @property
    def num_candidates(self) -> int:
        """How many there are."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """The width of an embedding."""
        return int(self._index.d)

    def num_searched(self, effort: int) -> int:
        """Say how many candidates a search looks at, about: 0 for a graph, where nobody knows.

        Args:
            effort: lists that are searched.
        """
        return 0 if self.is_graph else self.num_candidates * min(effort, self._index.nlist) // self._index.nlist

    def effort_among(self, effort: int, num_allowed: int) -> int:
        """Return the effort that looks at as many allowed candidates as another effort looks at candidates.

        Args:
            effort: lists that are searched, or candidates of the graph that are followed.
            num_allowed: how many candidates are allowed, at least 1.
        """
        return effort if self.is_graph else min(-(-effort * self.num_candidates // num_allowed), self._index.nlist)

    def find(self, vectors: Tensor, depth: int, effort: int, allowed: Tensor | None) -> Tensor:
        """Find rows that are probably good.

        Args:
            vectors: `(batch, dim)` float32.
            depth: how many for each.
            effort: lists that are searched, or candidates of the graph that are followed.
            allowed: `(num_candidates,)` bool, or None for all.

        Returns:
            `(batch, depth)` int64 rows, -1 where fewer were found.
        """
        self._faiss.omp_set_num_threads(torch.get_num_threads())  # one, where there are many threads that search
        if self.is_graph:
            settings = self._faiss.SearchParametersHNSW(efSearch=max(effort, depth), **self._chosen(allowed))
            return torch.from_numpy(self._index.search(vectors.numpy(), depth, params=settings)[1])
        num_lists = min(effort, self._index.nlist)
        settings = self._faiss.SearchParametersIVF(nprobe=num_lists, **self._chosen(allowed))
        if self._centres is None:
            return torch.from_numpy(self._index.search(vectors.numpy(), depth, params=settings)[1])
        scores, lists = best_candidates(vectors, self._centres, num_lists)
        return self._find_in_lists(vectors, depth, lists, scores, settings)

    def find_in_all(self, vectors: Tensor, depth: int, allowed: Tensor | None) -> Tensor:
        """Find the best rows by what is stored of every candidate; see `find`.

        Args:
            vectors: `(batch, dim)` float32.
            depth: how many for each.
            allowed: `(num_candidates,)` bool, or None for all.

        Returns:
            `(batch, depth)` int64 rows, -1 where there are fewer.
        """
        if not self.is_graph:
            return self.find(vectors, depth, self._index.nlist, allowed)
        settings = self._faiss.SearchParameters(**self._chosen(allowed))
        return torch.from_numpy(self._storage().search(vectors.numpy(), depth, params=settings)[1])

    def stored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is stored of some rows, codes decoded.

        Args:
            rows: any shape, int64, -1 for none.

        Returns:
            `(n, dim)` float32, and in the shape of `rows` the place of each in it, -1 for none.
        """
        if type(self._index).__name__ == "IndexHNSWFlat":  # all embeddings, in the order of rows: a view of them
            storage = self._storage()
            whole = self._faiss.rev_swig_ptr(storage.get_xb(), self.num_candidates * self.dim)
            return torch.from_numpy(whole).view(-1, self.dim), rows
        wanted, places = torch.unique(rows.clamp(min=0), return_inverse=True)
        decoder = self._storage() if self.is_graph else self._index
        vectors = torch.from_numpy(decoder.reconstruct_batch(wanted.numpy()))
        return vectors, places.masked_fill(rows < 0, -1)

    def with_added(self, vectors: Tensor) -> "Structure":
        """Return a structure with more candidates, after the last; it is copied, and trained no further.

        Args:
            vectors: `(num_added, dim)` float32.
        """
        other = self._copy()
        other._index.add(vectors.numpy())
        return other

    def with_updated(self, vectors: Tensor, rows: Tensor) -> "Structure":
        """Return a structure in which some candidates have other embeddings; it is copied. Not for a graph.

        Args:
            vectors: `(n, dim)` float32.
            rows: `(n,)` int64, distinct.
        """
        other = self._copy()
        other._forget_rows()
        other._index.remove_ids(self._faiss.IDSelectorBatch(rows.numpy()))
        other._index.add_with_ids(vectors.numpy(), rows.numpy())
        other._map_rows()
        return other

    def only(self, kept: Tensor) -> "Structure":
        """Return a structure with some of the candidates; it is copied. Not for a graph.

        Args:
            kept: ascending int64 rows.
        """
        other = self._copy()
        gone = torch.ones(self.num_candidates, dtype=torch.bool)
        gone[kept] = False
        other._forget_rows()
        other._index.remove_ids(self._faiss.IDSelectorBatch(gone.nonzero()[:, 0].numpy()))
        other._renumber(kept)
        other._map_rows()
        return other

    def _find_in_lists(self, vectors: Tensor, depth: int, lists: Tensor, scores: Tensor, settings: Any) -> Tensor:
        found, unused = torch.empty(len(vectors), depth, dtype=torch.int64), torch.empty(len(vectors), depth)
        arrays = [tensor.contiguous().numpy() for tensor in (vectors, lists, scores, unused, found)]
        x, chosen, closeness, scored, rows = map(self._faiss.swig_ptr, arrays)  # `arrays` holds the memory
        # The function of the same name without `_c` takes no settings, and so no candidates to leave out.
        self._index.search_preassigned_c(len(vectors), x, depth, chosen, closeness, scored, rows, False, settings)
        return found

    def _copy(self) -> "Structure":
        return Structure(self._faiss, self._faiss.clone_index(self._index))

    def _storage(self) -> Any:
        return self._faiss.downcast_index(self._index.storage)

    def _map_rows(self) -> None:
        """Let lists know where each row is, to decode it: 8 bytes per candidate."""
        if not self.is_graph:
            self._index.set_direct_map_type(self._faiss.DirectMap.Array)

    def _forget_rows(self) -> None:
        self._index.set_direct_map_type(self._faiss.DirectMap.NoMap)

    def _names_rows(self, ids: Tensor) -> bool:
        """Tell whether lists hold these ids, ascending, once each, and a graph leads to nothing else than its rows."""
        if self.is_graph:
            neighbors = self._faiss.vector_to_array(self._index.hnsw.neighbors)
            rows = np.append(neighbors, self._index.hnsw.entry_point)
            fits = self._storage().ntotal == len(ids) and self._storage().d == self.dim
            return fits and bool(((rows >= -1) & (rows < len(ids))).all())
        lists = self._index.invlists
        sizes = [lists.list_size(number) for number in range(self._index.nlist)]
        found = [self._faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes) if size]
        return sum(sizes) == len(ids) and np.array_equal(np.sort(np.concatenate(found)), ids.numpy())

    def _renumber(self, old: Tensor) -> None:
        """Give the candidates that were called `old`, ascending, the numbers from 0."""
        if torch.equal(old, torch.arange(len(old))):
            return
        lists, numbers = self._index.invlists, old.numpy()
        for number in range(self._index.nlist):
            size = lists.list_size(number)
            if size:
                ids: npt.NDArray[np.int64] = self._faiss.rev_swig_ptr(lists.get_ids(number), size)
                ids[:] = np.searchsorted(numbers, ids)

    def _chosen(self, allowed: Tensor | None) -> dict[str, Any]:
        if allowed is None:
            return {}
        return {"sel": self._faiss.IDSelectorBitmap(np.packbits(allowed.numpy(), bitorder="little"))}
