"""One search of a structure of Faiss: it finds candidates, their scores and order are the library's own."""

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.index.faiss_structure import Structure
from retrank.index.post_filter import PostFilter
from retrank.ops.pair_scores import pair_scores
from retrank.ops.top_k import empty_result, merge, pack, unpack

__all__ = ["FaissSearch"]

_MAX_OVERFETCH: Final = 1024  # excluded candidates that are fetched and dropped; of more, the search gets a mask


@final
@dataclass(frozen=True, slots=True)
class FaissSearch:
    """How a structure is searched.

    Args:
        structure: that finds candidates.
        effort: lists that are searched, or candidates of the graph that are followed.
        depth: how many candidates are found for each query.
        embeddings: `(num_candidates, dim)` float32 to score them by; None: by what is stored of them.
    """

    structure: Structure
    effort: int
    depth: int
    embeddings: Tensor | None

    def run(self, vectors: Tensor, k: int, rules: PostFilter) -> tuple[Tensor, Tensor]:
        """Search for all queries at once, and again for those that did not find enough.

        Args:
            vectors: `(batch, dim)` float32.
            k: how many to return.
            rules: what each query may get.

        Returns:
            Scores and rows, `(batch, k)` each, best first.
        """
        found = empty_result(len(vectors), k, vectors.device)
        if not rules.has_own_lists:
            self._search_together(found, vectors, rules)
        wanted = rules.num_left.clamp(max=k)
        for query in (_num_found(found) < wanted).nonzero()[:, 0].tolist():
            allowed, vector = rules.mask_of(query), vectors[query : query + 1]
            place, empty = found[query : query + 1], empty_result(1, k, found.device)
            if rules.are_few(query):
                place[:] = merge(empty, self._in_all(vector, int(rules.num_left[query]), allowed))
                continue
            place[:] = merge(empty, self._fast(vector, self.depth, allowed))
            if int(_num_found(place)) < int(wanted[query]):
                place[:] = merge(empty, self._in_all(vector, self.depth, allowed))
        return unpack(found)

    def _search_together(self, found: Tensor, vectors: Tensor, rules: PostFilter) -> None:
        """Search for as many candidates more than the depth as a query excludes."""
        everyone, allowed = torch.arange(len(vectors)), rules.shared_mask()
        if rules.shared is not None and rules.shares_few:
            depth = max(1, len(rules.shared))
            found[:] = merge(found, rules.without_excluded(everyone, self._in_all(vectors, depth, allowed)))
            return
        excess = torch.where(rules.num_excluded > 0, 2 ** rules.num_excluded.double().log2().ceil(), 0).long()
        for more in torch.unique(excess[rules.num_excluded <= _MAX_OVERFETCH]).tolist():
            queries, depth = everyone[excess == more], min(self.depth + more, self.structure.num_candidates)
            fetched = self._fast(vectors[queries], depth, allowed)
            found[queries] = merge(found[queries], rules.without_excluded(queries, fetched) if more else fetched)

    def _fast(self, vectors: Tensor, depth: int, allowed: Tensor | None) -> Tensor:
        return self._packed(vectors, self.structure.find(vectors, depth, self.effort, allowed))

    def _in_all(self, vectors: Tensor, depth: int, allowed: Tensor | None) -> Tensor:
        return self._packed(vectors, self.structure.find_in_all(vectors, depth, allowed))

    def _packed(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Score what was found, and pack it as in `top_k`. Faiss's own scores would depend on the processor."""
        if self.embeddings is not None:
            scores = pair_scores(vectors, self.embeddings, rows)
        else:
            scores = pair_scores(vectors, *self.structure.stored(rows))
        if not bool(scores[rows >= 0].isfinite().all()):
            raise DataError("finite scores", "an overflow of float32", "queries", "check the model's output")
        return pack(scores, rows.clamp(min=0))


def _num_found(packed: Tensor) -> Tensor:
    return (unpack(packed)[1] >= 0).sum(dim=1)
