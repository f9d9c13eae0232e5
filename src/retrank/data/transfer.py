"""Move batches to a device, one ahead of the consumer."""

from collections.abc import Iterator

import torch

from retrank.core.batch import Batch

__all__ = ["transfer"]


def transfer(batches: Iterator[Batch], device: torch.device | str | None) -> Iterator[Batch]:
    """Move batches to a device; to a GPU, the next one travels while the current one is used.

    Args:
        batches: on any device.
        device: where to; None leaves them where they are.

    Yields:
        The batches, on the device.
    """
    if device is None:
        yield from batches
        return
    device = torch.device(device)
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    current: Batch | None = None
    for batch in batches:
        # pinned memory makes the copy return at once, so that the next gather overlaps with the GPU's work
        coming = (batch if batch.device.type == "cuda" else batch.pin_memory()).to(device, non_blocking=True)
        if current is not None:
            yield current
        current = coming
    if current is not None:
        yield current
