"""Item-kNN: candidates similar to what the query already has."""

from collections.abc import Mapping
from typing import Final, final

import torch
from torch import Tensor

from retrank.baselines.baseline import Baseline
from retrank.baselines.blocks import ranges_of_cost
from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.learned import require_tensors
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.working import Working

__all__ = ["ItemKNN"]

_MEETINGS: Final = 2**20  # pairs of candidates looked at at once


@final
class ItemKNN(Baseline):
    """Score a candidate by the sum of its similarities to the query's history, over its nearest neighbours.

    The similarity of two candidates is `n_ij / (sqrt(n_i n_j) + shrink)`, n counting queries. Only neighbours that
    occur together are kept: memory grows with candidates x `num_neighbors`, never with pairs of candidates.

    Args:
        num_neighbors: neighbours kept for each candidate.
        shrink: makes similarities of rare pairs smaller.

    Raises:
        ConfigError: fewer than one neighbour, or a negative shrink.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbc"), "song": list("xyxyx")})
        >>> knn = rr.baselines.ItemKNN(num_neighbors=1).fit(plays)
        >>> knn.recommend_many(pl.DataFrame({"user": ["c"]}), k=1)["song"].to_list()
        ['y']

    Source: Sarwar et al., "Item-based collaborative filtering", WWW 2001, on binary data with the shrunk cosine of
    Deshpande and Karypis, TOIS 2004.
    """

    def __init__(self, num_neighbors: int = 100, shrink: float = 0.0) -> None:
        if num_neighbors < 1 or shrink < 0:
            raise ConfigError(
                "num_neighbors >= 1 and shrink >= 0", f"num_neighbors={num_neighbors}, shrink={shrink}", "ItemKNN"
            )
        self.num_neighbors, self.shrink = num_neighbors, shrink

    def _learn(self, matrix: InteractionMatrix, work: Working) -> None:
        # One block of memory for all: pieces kept one by one would hold on to the pages between them.
        most = int(matrix.num_meetings.clamp(max=self.num_neighbors).sum())
        kept = tuple(torch.empty(most, dtype=dtype) for dtype in (torch.int32, torch.int32, torch.float32))
        count = 0
        for first, last in ranges_of_cost(matrix.num_meetings, _MEETINGS):
            found = self._nearest(matrix, first, last)
            for part, own in zip(kept, found, strict=True):
                part[count : count + len(own)] = own
            count += len(found[0])
            work.advance(last - first)
        candidate, neighbor, similarity = (part[:count] for part in kept)
        self._similar = _grouped(neighbor, candidate, similarity, len(matrix.candidates))

    def _nearest(self, matrix: InteractionMatrix, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return some candidates, their nearest neighbors (int32 each) and how similar they are."""
        together, norms = matrix.co_occurrences(first, last), matrix.counts.float().sqrt()
        assert together.weights is not None
        row, neighbor = together.row_index(), together.values
        similarity = together.weights.float() / (norms[first + row] * norms[neighbor] + self.shrink)
        others = neighbor != first + row
        row, neighbor, similarity = row[others], neighbor[others], similarity[others]
        # similarities are positive, and the bits of positive floats are in their order
        order = torch.argsort((row << 32) - similarity.view(torch.int32), stable=True)
        row, neighbor, similarity = row[order], neighbor[order], similarity[order]
        starts = torch.searchsorted(row, torch.arange(last - first))
        near = torch.arange(len(row)) - starts[row] < self.num_neighbors
        return (first + row[near]).int(), neighbor[near].int(), similarity[near]

    def score(self, histories: Jagged) -> Tensor:
        """Score all candidates: `(queries, candidates)` float32, the sum of similarities to each history."""
        assert histories.weights is not None
        num_candidates = len(self._similar)
        scores = torch.zeros(len(histories) * num_candidates)
        owner, lengths = histories.row_index() * num_candidates, self._similar.lengths()[histories.values]
        for first, last in ranges_of_cost(lengths, _MEETINGS):
            similar = self._similar.take(histories.values[first:last])
            assert similar.weights is not None
            entry = first + similar.row_index()
            scores.index_add_(0, owner[entry] + similar.values, similar.weights * histories.weights[entry])
        return scores.view(len(histories), num_candidates)

    def learned(self) -> dict[str, Tensor]:
        """Return those of whose nearest each candidate is one: `values`, `offsets` and `weights` of a `Jagged`."""
        self._require_fitted()
        similar = self._similar
        assert similar.weights is not None
        return {"values": similar.values, "offsets": similar.offsets, "weights": similar.weights}

    def _restore(self, learned: Mapping[str, Tensor]) -> None:
        size, count = len(self.candidates), len(learned.get("values", ()))
        sizes = {
            "values": (torch.int32, (count,)),
            "offsets": (torch.int64, (size + 1,)),
            "weights": (torch.float32, (count,)),
        }
        similar = Jagged(**require_tensors(learned, sizes, "ItemKNN"))
        if count and not 0 <= int(similar.values.min()) <= int(similar.values.max()) < size:
            got = f"{int(similar.values.min())} to {int(similar.values.max())}"
            raise DataError(f"candidates below {size}", got, "values of ItemKNN")
        self._similar = similar


def _grouped(rows: Tensor, values: Tensor, weights: Tensor, num_rows: int) -> Jagged:
    order = torch.argsort(rows, stable=True)
    return Jagged.from_lengths(values[order], torch.bincount(rows, minlength=num_rows), weights[order])
