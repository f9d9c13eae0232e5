"""One metric from those of all processes that train or evaluate together."""

import copy
from typing import TypeVar

import torch
from torch import Tensor

from retrank.core.collectives import gather_rows, gather_sizes, world_size
from retrank.metrics.metric import Metric

__all__ = ["merged_across_processes"]

_MetricT = TypeVar("_MetricT", bound=Metric)


def merged_across_processes(metric: _MetricT, *, device: torch.device | None = None) -> _MetricT:
    """Return a metric that has counted the rows of all processes, equal in every process.

    Every process must call it, in the same order for several metrics. The metric itself stays as it is, so that it can
    continue and nothing is counted twice.

    Args:
        metric: of this process; of the same configuration in every process.
        device: on which the processes exchange tensors: a GPU for NCCL. The CPU by default.

    Returns:
        A new metric; with one process, a copy.

    Example:
        >>> import torch, retrank as rr
        >>> metric = rr.metrics.AUC()
        >>> metric.update(torch.tensor([0.9, 0.1]), torch.tensor([1, 0]))
        >>> rr.metrics.merged_across_processes(metric).compute()
        tensor(1., dtype=torch.float64)
    """
    if world_size() == 1:
        return copy.deepcopy(metric)
    device = torch.device("cpu") if device is None else device
    own = metric.state_dict()
    gathered = {name: _gather(own[name].to(device)) for name in sorted(own)}
    merged, other = copy.deepcopy(metric), copy.deepcopy(metric)
    for rank in range(world_size()):
        target = merged if rank == 0 else other
        target.load_state_dict({name: parts[rank] for name, parts in gathered.items()})
        if rank:
            merged.merge(other)
    return merged


def _gather(tensor: Tensor) -> list[Tensor]:
    """Return the tensor of every process, by rank; their shapes may differ."""
    shapes = gather_sizes(*tensor.shape, device=tensor.device) if tensor.dim() else [()] * world_size()
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = torch.split(gather_rows(tensor.flatten(), sizes), sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
