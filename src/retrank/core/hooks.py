"""`has_hooks`: whether a module must be called, and cannot be read around."""

from torch import nn

__all__ = ["has_hooks"]


def has_hooks(*modules: nn.Module) -> bool:
    """Say whether somebody wants to hear when one of these modules is called.

    Args:
        modules: any.

    Returns:
        Whether one has a hook.

    Example:
        >>> import torch
        >>> from retrank.core.hooks import has_hooks
        >>> layer = torch.nn.ReLU()
        >>> handle = layer.register_forward_hook(print)
        >>> has_hooks(layer), has_hooks(torch.nn.ReLU())
        (True, False)
    """
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for module in modules for name in names)
