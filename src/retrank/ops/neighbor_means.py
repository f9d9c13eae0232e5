"""How alike an id is to the last ids of a list, where similarities are kept for few pairs."""

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native
from retrank.core.tensors import can_look

__all__ = ["NeighborBits", "Neighbors", "neighbor_bits", "neighbor_means"]

_WORD: Final = 64
_MOST_BYTES: Final = 2  # of bits, for each byte of neighbors


@final
class Neighbors(NamedTuple):
    """Symmetric similarities of ids, those of an id together.

    Attributes:
        starts: `(num_ids + 1,)` int64, where the neighbors of each id begin.
        ids: `(neighbors,)` int32, ascending within an id.
        similarities: `(neighbors,)` float32.
    """

    starts: Tensor
    ids: Tensor
    similarities: Tensor


@final
class NeighborBits(NamedTuple):
    """Which ids are neighbors, by which a similarity is found in a fraction of the time of a search.

    Attributes:
        bits: `(num_ids, words)` int64; bit `j % 64` of word `j // 64` says whether j is a neighbor.
        ranks: `(num_ids, words)` int32, how many neighbors of the id come before each word.
    """

    bits: Tensor
    ranks: Tensor


def neighbor_bits(neighbors: Neighbors) -> NeighborBits | None:
    """Write down which ids are neighbors.

    Args:
        neighbors: the similarities; they must not change.

    Returns:
        The bits, or None where they take too much memory: twice that of the neighbors, as with many ids of which each
        has few.

    Raises:
        DataError: neighbors that are not what `Neighbors` says.
    """
    num_ids, words = len(neighbors.starts) - 1, -(-(len(neighbors.starts) - 1) // _WORD)
    if num_ids * words * 12 > _MOST_BYTES * 8 * len(neighbors.ids):
        return None
    _check(neighbors)
    owners = torch.arange(num_ids, device=neighbors.ids.device).repeat_interleave(neighbors.starts.diff())
    ids = neighbors.ids.long()
    codes = owners * num_ids + ids
    if bool((codes.diff() <= 0).any()) or not 0 <= int(ids.min()) <= int(ids.max()) < num_ids:
        raise DataError(f"ascending neighbors in [0, {num_ids})", "others", "neighbor_bits")
    places = owners * words + ids // _WORD
    empty = torch.zeros(num_ids * words, dtype=torch.int64, device=ids.device)
    bits = empty.index_add(0, places, torch.ones_like(ids) << ids % _WORD)  # a sum of distinct bits
    counts = torch.bincount(places, minlength=len(empty)).view(num_ids, words)
    return NeighborBits(bits.view(num_ids, words), (counts.cumsum(dim=1) - counts).int())


def neighbor_means(
    neighbors: Neighbors,
    recent: Jagged,
    ids: Tensor,
    windows: Sequence[int],
    lists: Tensor | None = None,
    bits: NeighborBits | None = None,
) -> Tensor:
    """Return the mean similarity of each id to the last few of its list.

    Args:
        neighbors: the similarities; all others are 0, also those of ids that have no entry.
        recent: lists of ids, the latest last.
        ids: `(pairs,)` int64.
        windows: for each, a column: the mean over the last so many.
        lists: `(pairs,)` int64, the list of each pair; None if there is one list per pair.
        bits: what `neighbor_bits` made of the neighbors, for the same result in less time.

    Returns:
        `(pairs, len(windows))` float32; 0 where a list is empty.

    Raises:
        ShapeError: not one list per id, or tensors that do not fit.
        DataError: a list that is not there, or neighbors that are not what `Neighbors` says.
    """
    lists = torch.arange(len(recent), device=ids.device) if lists is None else lists
    if (
        lists.shape != ids.shape
        or lists.dtype != torch.int64
        or ids.dim() != 1
        or ids.dtype != torch.int64
        or recent.values.dtype != torch.int64
    ):
        got = f"{len(recent)} lists, ids {ids.dtype} of shape {tuple(ids.shape)}"
        raise ShapeError("one list of int64 ids per id", got, "neighbor_means")
    if not len(neighbors.ids):
        return torch.zeros(len(ids), len(windows), device=ids.device)
    if not (is_native(neighbors.similarities) and ids.is_cpu and recent.values.is_cpu):
        _refuse_what_misleads(neighbors, recent, lists)
        return _by_torch(neighbors, recent.take(lists), ids, windows)
    means, misled = torch.empty(len(ids), len(windows)), array("q", [0])
    call(
        "neighbor_means",
        len(neighbors.starts) - 1,
        neighbors.starts,
        len(neighbors.ids),
        neighbors.ids,
        neighbors.similarities,
        0 if bits is None else bits.bits.shape[1],
        *(bits or (None, None)),
        len(recent),
        len(recent.values),
        recent.values.contiguous(),
        recent.offsets.contiguous(),
        len(ids),
        lists.contiguous(),
        ids.contiguous(),
        len(windows),
        array("q", windows),
        misled,
        means,
    )
    if misled[0]:
        _refuse_what_misleads(neighbors, recent, lists)
        raise DataError("lists and neighbors that stay as they are", "others", "neighbor_means")
    return means


def _refuse_what_misleads(neighbors: Neighbors, recent: Jagged, lists: Tensor) -> None:
    recent.check()
    if can_look(neighbors.starts):
        _check(neighbors)
    if can_look(lists) and len(lists) and not 0 <= int(lists.min()) <= int(lists.max()) < len(recent):
        raise DataError(f"lists in [0, {len(recent)})", f"{int(lists.min())} to {int(lists.max())}", "neighbor_means")


def _check(neighbors: Neighbors) -> None:
    starts, count = neighbors.starts, len(neighbors.ids)
    if starts.dtype != torch.int64 or neighbors.ids.dtype != torch.int32 or neighbors.similarities.shape != (count,):
        got = f"{starts.dtype}, {neighbors.ids.dtype}, {count} ids, {len(neighbors.similarities)} similarities"
        raise ShapeError("int64 starts, int32 ids, and a similarity for each", got, "neighbor_means")
    if int(starts[0]) != 0 or int(starts[-1]) != count or bool((starts.diff() < 0).any()):
        raise DataError(f"starts that ascend from 0 to {count}", "others", "neighbor_means")


def _by_torch(neighbors: Neighbors, recent: Jagged, ids: Tensor, windows: Sequence[int]) -> Tensor:
    num_ids = len(neighbors.starts) - 1
    pair = recent.row_index()
    one, other = recent.values, ids[pair]
    # One ascending number per pair of neighbors, to be searched.
    owners = torch.arange(num_ids, device=ids.device).repeat_interleave(neighbors.starts.diff())
    known = owners * num_ids + neighbors.ids
    wanted = other * num_ids + one
    place = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
    is_known = (known[place] == wanted) & (one >= 0) & (one < num_ids) & (other >= 0) & (other < num_ids)
    similarity = torch.where(is_known, neighbors.similarities[place], 0.0)
    from_end = recent.offsets[1:][pair] - torch.arange(len(pair), device=pair.device)  # 1 for the latest
    lengths = recent.lengths()
    columns = []
    for window in windows:
        total = similarity.new_zeros(len(ids)).index_add_(0, pair, similarity.masked_fill(from_end > window, 0.0))
        columns.append(total / lengths.clamp(min=1, max=window))
    return torch.stack(columns, dim=1)
