"""`ranges_of_cost`: cutting work into pieces that need about the same memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["ranges_of_cost"]


def ranges_of_cost(costs: Tensor, limit: int) -> Iterator[tuple[int, int]]:
    """Cut rows into consecutive ranges.

    Args:
        costs: `(rows,)` integers of at least 0, what each row costs.
        limit: what a range may cost; a row that alone costs more is a range of its own.

    Yields:
        The first row of each range, and the one after its last; every row is in one range.

    Example:
        >>> import torch
        >>> from retrank.baselines.blocks import ranges_of_cost
        >>> list(ranges_of_cost(torch.tensor([3, 1, 9, 2]), 5))
        [(0, 2), (2, 3), (3, 4)]
    """
    ends, first, before = costs.cumsum(dim=0), 0, 0
    while first < len(costs):
        last = max(first + 1, int(torch.searchsorted(ends, before + limit, right=True)))
        yield first, last
        first, before = last, int(ends[last - 1])
