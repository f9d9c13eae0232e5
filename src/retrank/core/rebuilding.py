"""Rebuilding models from files: nothing is allocated that the weights beside the configuration do not fill."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from retrank.core.config import from_config
from retrank.core.errors import StorageError
from retrank.core.tensor_files import load_weights_of
from retrank.core.values import built_from

__all__ = ["rebuild"]

_SLACK: Final = 2**22  # numbers beside the weights, e.g. positions and masks
_TEMPORARIES: Final = 8  # how often a constructor may make what it keeps once
_MOST_OPERATIONS: Final = 200_000  # a configuration of a billion layers takes forever, whatever their size
_COUNTING: Final = frozenset({"aten::arange", "aten::eye", "aten::linspace", "aten::randperm"})


def rebuild(config: Any, tensors: Mapping[str, Tensor], *, where: str, weights: str, **context: Any) -> nn.Module:
    """Build the module that a configuration describes, with its weights.

    Args:
        config: what `to_config` returned.
        tensors: its weights by name.
        where: the file of the configuration, for messages.
        weights: the file of the weights.
        context: shared objects by name, as `from_config` takes them.

    Returns:
        The module.

    Raises:
        StorageError: the configuration builds nothing, no module, or one that is larger than its weights, which is
            noticed before memory is taken; or the weights are those of another module.
    """
    with built_from(where), _Budget(sum(tensor.numel() for tensor in tensors.values()) + _SLACK, where):
        module = from_config(config, **context)
    if not isinstance(module, nn.Module):
        raise StorageError("a module", type(module).__name__, where, "restore the file")
    load_weights_of(module, tensors, weights)
    return module


@final
class _Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Ends a construction before it makes a tensor that is too large, or when it makes too many."""

    def __init__(self, numbers: int, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._numbers, self._where = numbers, where
        self._left, self._operations_left = numbers * _TEMPORARIES, _MOST_OPERATIONS

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = max((_numel(value) for value in args), default=0)
        if func._schema.name in _COUNTING:
            asked = max(asked, *(int(value) for value in args if isinstance(value, int | float)))
        self._left -= asked
        self._operations_left -= 1
        if asked > self._numbers or min(self._left, self._operations_left) < 0:
            got = f"one that makes {asked} at once" if asked > self._numbers else "one that makes countless tensors"
            raise StorageError(
                f"a model of at most {self._numbers} numbers, as the weights have", got, self._where, "restore the file"
            )
        operation: Callable[..., Any] = func
        return operation(*args, **(kwargs or {}))


def _numel(argument: Any) -> int:
    """Return how many numbers a tensor has if an argument is its shape."""
    if not isinstance(argument, list | tuple) or not all(isinstance(size, int) and size >= 0 for size in argument):
        return 0
    return math.prod(argument)
