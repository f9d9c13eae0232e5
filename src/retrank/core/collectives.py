"""What processes that train together exchange; with one process, nothing.

Every process must call these functions in the same order: each waits for all others.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["gather_rows", "gather_sizes", "process_rank", "world_size"]


def world_size() -> int:
    """Return how many processes train together: 1 unless `torch.distributed` is initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the place of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_sizes(*sizes: int, device: torch.device) -> list[tuple[int, ...]]:
    """Tell all processes how large each one's tensors are; the host waits for the answer.

    Args:
        sizes: of this process.
        device: on which the processes exchange tensors.

    Returns:
        The sizes of every process, by rank.

    Example:
        >>> import torch, retrank as rr
        >>> rr.core.gather_sizes(3, 5, device=torch.device("cpu"))
        [(3, 5)]
    """
    if world_size() == 1:
        return [sizes]
    own = torch.tensor(sizes, device=device)
    every = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(every, own)
    return [tuple(row) for row in torch.stack(every).tolist()]


def gather_rows(tensor: Tensor, num_rows: Sequence[int]) -> Tensor:
    """Concatenate the rows of all processes, differentiably.

    The gradient of a row is the sum of what all processes ask of it. So the mean over processes of each one's
    gradients, which `DistributedDataParallel` takes, is the gradient of the mean over processes of their losses.

    Args:
        tensor: `(rows, ...)`; all but the number of rows is alike in every process.
        num_rows: rows in every process, by rank.

    Returns:
        `(sum(num_rows), ...)` in the order of ranks.

    Example:
        >>> import torch, retrank as rr
        >>> rr.core.gather_rows(torch.tensor([4.0, 5.0]), [2])
        tensor([4., 5.])
    """
    if world_size() == 1:
        return tensor
    gathered: Tensor = _GatherRows.apply(tensor, tuple(num_rows))  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, num_rows: tuple[int, ...]) -> Tensor:
        ctx.num_rows = num_rows
        padded = tensor.new_zeros(max(num_rows), *tensor.shape[1:])  # backends exchange equal shapes alone
        padded[: len(tensor)] = tensor
        every = [torch.empty_like(padded) for _ in num_rows]
        dist.all_gather(every, padded)
        return torch.cat([part[:rows] for part, rows in zip(every, num_rows, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        parts: tuple[Tensor, ...] = torch.split(total, ctx.num_rows)
        return parts[process_rank()], None
