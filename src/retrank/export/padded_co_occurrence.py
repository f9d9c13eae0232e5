"""`PaddedCoOccurrence`: a layer that looks into lists, as a tensor program of rectangles."""

import copy
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.jagged import Jagged
from retrank.core.schema import PADDING_ID
from retrank.layers.co_occurrence import CoOccurrence

__all__ = ["PaddedCoOccurrence", "traceable"]


@final
class PaddedCoOccurrence(nn.Module):
    """What a `CoOccurrence` computes, for lists with padding at either end and one list per pair.

    Args:
        layer: a fitted one; its similarities are shared.

    Example:
        >>> import torch, retrank as rr
        >>> from retrank.export.padded_co_occurrence import PaddedCoOccurrence
        >>> from retrank.export.padded_lists import padded_column
        >>> layer = rr.layers.CoOccurrence(num_ids=5, windows=[1, 2])
        >>> layer.fit(rr.Jagged.from_lists([[2, 3], [2, 3], [2, 4]]))
        >>> PaddedCoOccurrence(layer)(padded_column(torch.tensor([[4, 2, 0]]), None), torch.tensor([3]))
        tensor([[0.8165, 0.4082]])
    """

    starts: Tensor
    neighbors: Tensor
    cosines: Tensor

    def __init__(self, layer: CoOccurrence) -> None:
        super().__init__()
        self.windows = layer.windows
        # One entry more, which nothing finds, so that a place behind the last neighbor can be looked at, too.
        self.register_buffer("starts", layer.starts)
        self.register_buffer("neighbors", nn.functional.pad(layer.neighbors, (0, 1), value=-1))
        self.register_buffer("cosines", nn.functional.pad(layer.cosines, (0, 1)))
        self._num_halvings = int(layer.starts.diff().max()).bit_length()

    def forward(self, recent: Jagged, candidates: Tensor) -> Tensor:
        """Compare pairs.

        Args:
            recent: `(pairs,)` padded lists of candidate ids, the latest last.
            candidates: `(pairs,)` int64 ids.

        Returns:
            `(pairs, len(windows))` means; 0 where there is nothing recent.
        """
        ids = recent.values.reshape(candidates.shape[0], -1)
        is_there = (ids != PADDING_ID).to(self.cosines.dtype)
        similarity = self._similarity(ids, candidates.unsqueeze(1)) * is_there
        count = is_there.sum(dim=1, keepdim=True)
        place = count - is_there.cumsum(dim=1)  # how many come later
        columns = []
        for window in self.windows:
            total = (similarity * (place < window)).sum(dim=1)
            columns.append(total / count[:, 0].clamp(min=1, max=window))
        return torch.stack(columns, dim=1)

    def _similarity(self, ids: Tensor, candidates: Tensor) -> Tensor:
        """Find each id among the ascending neighbors of its candidate, by halving where it may be."""
        ids = ids.to(self.neighbors.dtype)
        low = self.starts[candidates].expand_as(ids)
        high = self.starts[candidates + 1].expand_as(ids)
        end = high
        for _ in range(self._num_halvings):
            middle = (low + high) // 2
            is_before = (self.neighbors[middle] < ids) & (low < high)
            low, high = torch.where(is_before, middle + 1, low), torch.where(is_before, high, middle)
        is_found = (low < end) & (self.neighbors[low] == ids)
        return torch.where(is_found, self.cosines[low], 0.0)


def traceable(model: nn.Module) -> nn.Module:
    """Copy a model, with layers that can be traced in place of those that have a form for padded lists.

    Args:
        model: any; it stays as it is.

    Returns:
        The copy, in evaluation mode on the CPU.
    """
    copied = copy.deepcopy(model).to("cpu").eval().requires_grad_(False)
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, CoOccurrence):
                setattr(module, name, PaddedCoOccurrence(child))
    return copied
