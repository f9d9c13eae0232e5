"""`CoOccurrence`: how often a candidate was chosen together with what a query had before."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, starmap
from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from retrank.core.arguments import check_count
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.ops.neighbor_means import Neighbors, neighbor_bits, neighbor_means

__all__ = ["CoOccurrence", "co_occurrences"]

_MEETINGS: Final = 2**20  # of pairs of ids, counted at once


def co_occurrences(lists: Jagged, num_ids: int) -> Tensor:
    """Count for every pair of ids the lists that hold both.

    Args:
        lists: distinct ids below `num_ids`, one row per list.
        num_ids: how many ids there are.

    Returns:
        `(num_ids, num_ids)` float64, sparse (CSR); the diagonal counts the lists of each id.

    Raises:
        DataError: an id that is not below `num_ids`.

    Example:
        >>> import retrank as rr
        >>> rr.layers.co_occurrences(rr.Jagged.from_lists([[0, 1], [1]]), num_ids=2).to_dense().tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """
    _check_ids(lists, num_ids)
    together = _Meetings.concat(list(_Meetings.blocks(lists, num_ids)))
    ids, others, counts = _both_ways(*together)
    shape = (num_ids, num_ids)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta state")  # torch warns of all that is sparse
        return torch.sparse_csr_tensor(_starts(ids, num_ids), others, counts.double(), shape, check_invariants=False)


@final
class CoOccurrence(Configurable, nn.Module):
    """The mean cosine similarity of a candidate to the last few of a query's recent candidates.

    Two candidates are as similar as `n_ij / sqrt(n_i n_j)`, n counting the histories that hold them. `fit` learns the
    similarities; gradients do not change them. The pairs that occur together most often are kept, since they count in
    most lists, and all others are 0. An id that the vocabulary has gained since then is similar to no other, until the
    layer is fitted again; see `grow`.

    Args:
        num_ids: how many candidate ids there are, padding and unknown included.
        windows: for each, a feature: the mean over the last so many.
        num_neighbors: how many to keep of a candidate on average, at 8 bytes each. Of pairs that occur together equally
            often the most similar are kept, and of these those with the smallest ids.

    Raises:
        ConfigError: no windows, or a number below 1.

    Example:
        >>> import torch, retrank as rr
        >>> layer = rr.layers.CoOccurrence(num_ids=5, windows=[1, 2])
        >>> layer.fit(rr.Jagged.from_lists([[2, 3], [2, 3], [2, 4]]))
        >>> layer(rr.Jagged.from_lists([[4, 2]]), torch.tensor([3]))
        tensor([[0.8165, 0.4082]])

    Source: the item-item similarity of Sarwar et al., WWW 2001, as a feature of a pair.
    """

    starts: Tensor
    neighbors: Tensor
    cosines: Tensor

    def __init__(self, num_ids: int, windows: Sequence[int] = (1, 5, 20, 50), *, num_neighbors: int = 128) -> None:
        super().__init__()
        if not windows or min(windows) < 1 or num_ids < 1:
            raise ConfigError("windows of at least 1", str(list(windows)), "CoOccurrence", "such as (1, 5, 20)")
        check_count(num_neighbors, "num_neighbors", "CoOccurrence")
        self.num_ids, self.windows, self.num_neighbors = num_ids, tuple(windows), num_neighbors
        self.register_buffer("starts", torch.zeros(num_ids + 1, dtype=torch.int64))
        self.register_buffer("neighbors", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("cosines", torch.zeros(0))
        self.register_load_state_dict_pre_hook(_resize_to_state)  # type: ignore[no-untyped-call]

    def fit(self, histories: Jagged) -> None:
        """Learn the similarities.

        Args:
            histories: the candidate ids of each query, one row per query; an id that is there twice counts once.

        Raises:
            DataError: an id that is not below `num_ids`.
        """
        _check_ids(histories, self.num_ids)
        codes = torch.unique(histories.row_index().cpu() * self.num_ids + histories.values.cpu())
        held = Jagged.group(codes // self.num_ids, codes % self.num_ids, len(histories))
        totals = torch.bincount(held.values, minlength=self.num_ids).double()
        kept = self._most_frequent(held, totals)
        ids, others, counts = _both_ways(*kept)
        cosines = counts / (totals[ids] * totals[others]).sqrt()
        device = self.cosines.device
        self.starts = _starts(ids, self.num_ids).to(device)
        self.neighbors, self.cosines = others.int().to(device), cosines.float().to(device)

    def _most_frequent(self, lists: Jagged, totals: Tensor) -> "_Meetings":
        """Return what is kept, each pair once."""
        limit = self.num_ids * self.num_neighbors // 2
        none = torch.zeros(0, dtype=torch.int64)
        kept, strengths = _Meetings(none, none, none), none.double()
        for some in _Meetings.blocks(lists, self.num_ids):
            some = some.take(some.ids < some.others)
            # Counts are whole numbers and cosines at most 1: among equal counts the cosine decides.
            found = some.counts + 0.5 * some.counts / (totals[some.ids] * totals[some.others]).sqrt()
            kept, strengths = _Meetings.concat([kept, some]), torch.cat([strengths, found])
            strongest = _largest(strengths, limit)
            kept, strengths = kept.take(strongest), strengths[strongest]
        return kept

    def grow(self, num_ids: int) -> None:
        """Make room for new ids, which are similar to no other until the next `fit`; all others keep what they have.

        Args:
            num_ids: the new number of ids.

        Raises:
            ConfigError: fewer ids than there are.
        """
        if num_ids < self.num_ids:
            raise ConfigError(f"at least {self.num_ids} ids", str(num_ids), "CoOccurrence.grow")
        self.starts = torch.cat([self.starts, self.starts[-1:].expand(num_ids - self.num_ids)])
        self.num_ids = num_ids
        self._record(num_ids=num_ids)

    def forward(self, recent: Jagged, candidates: Tensor, lists: Tensor | None = None) -> Tensor:
        """Compare pairs.

        Args:
            recent: candidate ids that queries had before, the latest last.
            candidates: `(pairs,)` int64 ids.
            lists: `(pairs,)` int64, the row of `recent` of each pair; None if each pair has a row of its own.

        Returns:
            `(pairs, len(windows))` float32 means; 0 where there is nothing recent.

        Raises:
            ShapeError: not one row of `recent` for each candidate.
            DataError: a row of `recent` that is not there.
        """
        return neighbor_means(self._similarities, recent, candidates, self.windows, lists)

    def prepared(self) -> Callable[[Jagged, Tensor, Tensor], Tensor]:
        """Return what gives the bits of `forward`, with lists, in less time; the layer must not change."""
        similarities = self._similarities
        bits = neighbor_bits(similarities) if similarities.ids.is_cpu else None
        return lambda recent, candidates, lists: neighbor_means(
            similarities, recent, candidates, self.windows, lists, bits
        )

    @property
    def _similarities(self) -> Neighbors:
        return Neighbors(self.starts, self.neighbors, self.cosines)


def _check_ids(lists: Jagged, num_ids: int) -> None:
    outside = ((lists.values < 0) | (lists.values >= num_ids)).nonzero().flatten()
    if len(outside):  # torch would share its memory
        place = outside[0]
        raise DataError(
            f"ids in [0, {num_ids})",
            str(int(lists.values[place])),
            f"co-occurrences, row {int(lists.row_index()[place])}",
            "count with as many ids as the vocabulary has",
        )


@final
class _Meetings(NamedTuple):
    """Pairs of ids, of which the first is not above the second, ascending, and how many lists hold both."""

    ids: Tensor
    others: Tensor
    counts: Tensor

    @classmethod
    def blocks(cls, lists: Jagged, num_ids: int) -> Iterator[Self]:
        """Count all pairs in bounded memory, those of some ids at a time, an id with itself among them."""
        owners = Jagged.group(lists.values, lists.row_index(), num_ids)
        costs = torch.zeros(num_ids, dtype=torch.int64, device=lists.device)
        costs.index_add_(0, lists.values, lists.lengths()[lists.row_index()])
        sizes = torch.bincount(costs.cumsum(0) // _MEETINGS)
        for ids in starmap(slice, pairwise([0, *sizes[sizes > 0].cumsum(0).tolist()])):
            of_ids = owners[ids]
            others = lists.take(of_ids.values)
            first = ids.start + of_ids.row_index()[others.row_index()]
            once = first <= others.values
            codes, counts = torch.unique(first[once] * num_ids + others.values[once], return_counts=True)
            yield cls(codes // num_ids, codes % num_ids, counts)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Return pairs one after another."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def take(self, chosen: Tensor) -> Self:
        """Return the pairs of a mask."""
        return type(self)(self.ids[chosen], self.others[chosen], self.counts[chosen])


def _both_ways(ids: Tensor, others: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `_Meetings` holds from the side of either id, ascending; an id meets itself once."""
    differ = ids != others
    ids, others = torch.cat([ids, others[differ]]), torch.cat([others, ids[differ]])
    order = torch.argsort(ids * (int(others.max()) + 1 if len(others) else 1) + others)
    return ids[order], others[order], torch.cat([counts, counts[differ]])[order]


def _largest(values: Tensor, most: int) -> Tensor:
    """Return a mask of the largest values, at most so many; of equal ones the first."""
    if len(values) <= most:
        return torch.ones(len(values), dtype=torch.bool)
    least = values.kthvalue(len(values) - most).values  # the largest that is left out, unless there are equal ones
    chosen = values > least
    equal = (values == least).nonzero()[:, 0]
    chosen[equal[: most - int(chosen.sum())]] = True
    return chosen


def _starts(rows: Tensor, num_rows: int) -> Tensor:
    starts = torch.zeros(num_rows + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=num_rows), dim=0, out=starts[1:])
    return starts


def _resize_to_state(module: CoOccurrence, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let a saved state bring its own number of neighbors; what was saved as one number per pair is taken apart."""
    keys = state.pop(prefix + "keys", None)
    if keys is not None:
        rows = keys // module.num_ids
        if keys.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < module.num_ids:
            raise RuntimeError(f"pairs of {module.num_ids} ids, got the number {int(keys.max())}")  # as torch does here
        state[prefix + "starts"] = _starts(rows, module.num_ids)
        state[prefix + "neighbors"] = (keys % module.num_ids).int()
    for name in ("neighbors", "cosines"):
        saved = state.get(prefix + name)
        if saved is not None:
            setattr(module, name, torch.empty_like(saved, device=getattr(module, name).device))
