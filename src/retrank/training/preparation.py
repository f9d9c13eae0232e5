"""What must be known before the first step: how many rows, and the shape of every parameter."""

import torch
from torch.nn.parameter import is_lazy

from retrank.core.errors import ConfigError
from retrank.data.batches import Batches
from retrank.training.device import model_device
from retrank.training.mode import evaluating
from retrank.training.trainable import Trainable

__all__ = ["known_rows", "materialize"]


def known_rows(batches: Batches) -> int | None:
    """Return the rows of a loader, or None where only reading all of them would tell.

    Args:
        batches: a loader.

    Returns:
        Rows per epoch.
    """
    try:
        return batches.num_rows
    except ConfigError:
        return None


def materialize(model: Trainable, batches: Batches) -> None:
    """Give lazily sized layers their width, from the first batch, without moving the loader.

    Optimizers and checkpoints need the shape of every parameter before the first step.

    Args:
        model: what will be trained or evaluated.
        batches: on what.
    """
    if not any(is_lazy(parameter) for parameter in model.parameters()):
        return
    position = batches.state_dict()
    batch = next(iter(batches))
    batches.load_state_dict(position)
    with evaluating(model), torch.no_grad():
        model.compute_loss(batch.to(model_device(model)))
