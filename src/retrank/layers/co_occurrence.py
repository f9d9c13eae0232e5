"""`CoOccurrence`: how often a candidate was chosen together with what a query had before."""

import warnings
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.ops.neighbor_means import Neighbors, neighbor_means

__all__ = ["CoOccurrence", "co_occurrences"]


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
    outside = ((lists.values < 0) | (lists.values >= num_ids)).nonzero().flatten()
    if len(outside):  # torch would share its memory
        place = outside[0]
        raise DataError(
            f"ids in [0, {num_ids})",
            str(int(lists.values[place])),
            f"co-occurrences, row {int(lists.row_index()[place])}",
            "count with as many ids as the vocabulary has",
        )
    places = torch.stack([lists.row_index(), lists.values])
    ones = torch.ones(places.shape[1], dtype=torch.float64, device=lists.device)
    pairs = torch.sparse_coo_tensor(places, ones, (len(lists), num_ids), check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta state")  # torch warns of all its sparse products
        together: Tensor = torch.sparse.mm(pairs.T, pairs).to_sparse_csr()
    return together


@final
class CoOccurrence(Configurable, nn.Module):
    """The mean cosine similarity of a candidate to the last few of a query's recent candidates.

    Two candidates are as similar as `n_ij / sqrt(n_i n_j)`, n counting the histories that hold them. `fit` learns the
    similarities; gradients do not change them. Only pairs that occur are kept. An id that the vocabulary has gained
    since then is similar to no other, until the layer is fitted again; see `grow`.

    Args:
        num_ids: how many candidate ids there are, padding and unknown included.
        windows: for each, a feature: the mean over the last so many.

    Raises:
        ConfigError: no windows, or one below 1.

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

    def __init__(self, num_ids: int, windows: Sequence[int] = (1, 5, 20, 50)) -> None:
        super().__init__()
        if not windows or min(windows) < 1 or num_ids < 1:
            raise ConfigError("windows of at least 1", str(list(windows)), "CoOccurrence", "such as (1, 5, 20)")
        self.num_ids, self.windows = num_ids, tuple(windows)
        self.register_buffer("starts", torch.zeros(num_ids + 1, dtype=torch.int64))
        self.register_buffer("neighbors", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("cosines", torch.zeros(0))
        self.register_load_state_dict_pre_hook(_resize_to_state)  # type: ignore[no-untyped-call]

    def fit(self, histories: Jagged) -> None:
        """Learn the similarities.

        Args:
            histories: the distinct candidate ids of each query, one row per query.

        Raises:
            DataError: an id that is not below `num_ids`.
        """
        together = co_occurrences(histories, self.num_ids)
        row = torch.repeat_interleave(torch.arange(self.num_ids), together.crow_indices().diff())
        column, counts = together.col_indices(), together.values()
        own = row == column
        totals = torch.zeros(self.num_ids, dtype=torch.float64)
        totals[row[own]] = counts[own]
        row, column, counts = row[~own], column[~own], counts[~own]
        order = torch.argsort(row * self.num_ids + column)
        device = self.cosines.device
        self.starts = _starts(row, self.num_ids).to(device)
        self.neighbors = column[order].int().to(device)
        self.cosines = (counts / (totals[row] * totals[column]).sqrt())[order].float().to(device)

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
        neighbors = Neighbors(self.starts, self.neighbors, self.cosines)
        return neighbor_means(neighbors, recent, candidates, self.windows, lists)


def _starts(rows: Tensor, num_rows: int) -> Tensor:
    starts = torch.zeros(num_rows + 1, dtype=torch.int64)
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
