"""How a loss becomes one number: the mean over all its entries, their sum, or no reduction at all."""

from typing import Literal

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError

__all__ = ["Reduction", "check_reduction", "check_shape", "reduced"]

Reduction = Literal["mean", "sum", "none"]


def check_reduction(reduction: str, where: str) -> None:
    """Raise unless the reduction is one that `reduced` knows.

    Args:
        reduction: `"mean"`, `"sum"` or `"none"`.
        where: the loss, for the message.

    Raises:
        ConfigError: another reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError("reduction 'mean', 'sum' or 'none'", repr(reduction), where)


def check_shape(tensor: Tensor | None, shape: torch.Size, name: str, where: str) -> None:
    """Raise unless a tensor is left out or has the shape.

    Args:
        tensor: labels, mask or weight.
        shape: of the scores. Another shape might broadcast, comparing every row with every other.
        name: of the tensor, for the message.
        where: the loss, for the message.

    Raises:
        ShapeError: another shape.
    """
    if tensor is not None and tensor.shape != shape:
        raise ShapeError(f"{name} of shape {tuple(shape)}", str(tuple(tensor.shape)), where)


def reduced(losses: Tensor, weight: Tensor | None, reduction: Reduction) -> Tensor:
    """Weigh the losses and reduce them.

    Args:
        losses: one entry for each row, list or item.
        weight: of the losses' shape, or None for 1. What has no weight takes no part, even if its loss is infinite.
        reduction: `"mean"` is Σ weight·loss / entries (not / Σ weight), and 0 if there are none.

    Returns:
        A scalar, or with `"none"` a tensor like the losses.

    Example:
        >>> import torch
        >>> from retrank.losses.reduction import reduced
        >>> reduced(torch.tensor([2.0, torch.inf]), torch.tensor([3.0, 0.0]), "mean")
        tensor(3.)
    """
    if weight is not None:
        losses = torch.where(weight == 0, 0, losses * weight)
    if reduction == "none":
        return losses
    return losses.sum() / max(losses.numel(), 1) if reduction == "mean" else losses.sum()
