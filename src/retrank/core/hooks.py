"""`has_hooks`: whether a module must be called, and cannot be read around."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

__all__ = ["has_hooks"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(*modules: nn.Module) -> bool:
    """Say whether somebody wants to hear when one of these modules is called, or has replaced what it does.

    Args:
        modules: any.

    Returns:
        Whether one has a hook, all modules have one, or one has a `forward` of its own that is not its class's.

    Example:
        >>> import torch
        >>> from retrank.core.hooks import has_hooks
        >>> layer = torch.nn.ReLU()
        >>> handle = layer.register_forward_hook(print)
        >>> has_hooks(layer), has_hooks(torch.nn.ReLU())
        (True, False)
    """
    return bool(_has_any_global_hook()) or any(  # type: ignore[no-untyped-call]
        "forward" in vars(module) or any(getattr(module, name) for name in _HOOKS) for module in modules
    )
