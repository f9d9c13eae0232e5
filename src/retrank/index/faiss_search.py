"""One search of a structure of Faiss: it finds candidates, their scores and order are the library's own."""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.index.faiss_structure import Structure
from retrank.index.post_filter import PostFilter
from retrank.ops.pair_scores import pair_scores
from retrank.ops.top_k import empty_result, merge, pack, unpack

__all__ = ["FaissSearch"]

_MAX_OVERFETCH: Final = 1024  # excluded candidates that are fetched and dropped; of more, the search gets a mask
_FEW: Final = 1024  # allowed candidates that are all scored, instead of searched for
_MOST_FEW: Final = 65_536  # likewise where embeddings are at hand and a search would cost as much
_PAIRS: Final = 2**20  # that are scored at a time
_MISSING: Final = int(empty_result(1, 1, torch.device("cpu")))


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
        for query in ((found > _MISSING).sum(dim=1) < wanted).nonzero()[:, 0].tolist():
            allowed, vector = rules.mask_of(query), vectors[query : query + 1]
            place, empty, num_left = found[query : query + 1], empty_result(1, k, found.device), rules.num_left[query]
            if int(num_left) <= self._few:
                place[:] = merge(empty, self._packed(vector, _rows_in(allowed)))
                continue
            place[:] = merge(empty, self._fast(vector, self.depth, allowed, int(num_left)))
            if int((place > _MISSING).sum()) < int(wanted[query]):
                place[:] = merge(empty, self._packed(vector, self.structure.find_in_all(vector, self.depth, allowed)))
        return unpack(found)

    def _search_together(self, found: Tensor, vectors: Tensor, rules: PostFilter) -> None:
        """Search for as many candidates more than the depth as a query excludes."""
        everyone, allowed = torch.arange(len(vectors)), rules.shared_mask
        if allowed is not None and rules.num_shared <= self._few:
            rows = _rows_in(allowed)
            for some in torch.split(everyone, max(1, _PAIRS // max(1, rules.num_shared))):
                scored = self._packed(vectors[some], rows.expand(len(some), -1))
                found[some] = merge(found[some], rules.without_excluded(some, scored))
            return
        excess = torch.where(rules.num_excluded > 0, 2 ** rules.num_excluded.double().log2().ceil(), 0).long()
        for more in torch.unique(excess[rules.num_excluded <= _MAX_OVERFETCH]).tolist():
            queries, depth = everyone[excess == more], min(self.depth + more, self.structure.num_candidates)
            fetched = self._fast(vectors[queries], depth, allowed, rules.num_shared)
            found[queries] = merge(found[queries], rules.without_excluded(queries, fetched) if more else fetched)

    @property
    def _few(self) -> int:
        """So many allowed candidates are all scored, which misses none.

        Of n allowed among N, a search in lists finds a full share where it asks about N / n times as many candidates as
        without a rule. To score one of the allowed, wherever it is in memory, costs as much as to ask about four.
        """
        if self.embeddings is None:
            return _FEW
        searched, num_candidates = self.structure.num_searched(self.effort), self.structure.num_candidates
        return max(_FEW, min(_MOST_FEW, math.isqrt(searched * num_candidates // 4)))

    def _fast(self, vectors: Tensor, depth: int, allowed: Tensor | None, num_allowed: int) -> Tensor:
        """Search; where a part of the candidates is allowed, in so many more lists, to see as many that count."""
        effort = self.effort if allowed is None else self.structure.effort_among(self.effort, num_allowed)
        return self._packed(vectors, self.structure.find(vectors, depth, effort, allowed))

    def _packed(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Score what was found, and pack it as in `top_k`. Faiss's own scores would depend on the processor."""
        if self.embeddings is not None:
            scores = pair_scores(vectors, self.embeddings, rows)
        else:
            scores = pair_scores(vectors, *self.structure.stored(rows))
        if bool((~scores.isfinite() & (rows >= 0)).any()):
            raise DataError("finite scores", "an overflow of float32", "queries", "check the model's output")
        return pack(scores, rows.clamp(min=0))


def _rows_in(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask.numpy()))[None]  # several times as fast as torch's
