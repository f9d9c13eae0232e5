"""Where a model computes, and in which precision."""

from contextlib import AbstractContextManager
from itertools import chain
from typing import Literal, get_args

import torch
from torch import nn

from retrank.core.errors import ConfigError

__all__ = ["Precision", "autocast", "model_device", "resolve_device"]

Precision = Literal["float32", "bfloat16"]
"""What matrix products are computed in; weights, sums and losses are float32 in both."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device by name, choosing one for `"auto"`.

    Args:
        device: `"auto"` (CUDA where there is one, else the CPU) or what `torch.device` takes.

    Returns:
        The device.

    Raises:
        ConfigError: torch knows no such device, or this machine has no CUDA.

    Example:
        >>> import retrank as rr
        >>> rr.training.resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigError("'auto', 'cpu', 'cuda' or 'cuda:0'", repr(device), "device") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("a device of this machine", f"'{device}' without CUDA", "device", 'use device="auto"')
    return found


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU if it has none.

    Args:
        model: any module.

    Returns:
        The device.
    """
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a forward pass of this precision runs.

    Args:
        device: where the model computes.
        precision: `"float32"` or `"bfloat16"`.

    Returns:
        A context manager.

    Raises:
        ConfigError: another precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"one of {get_args(Precision)}", repr(precision), "precision")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
