"""`OptimizerSpec`: what every optimizer of the package is before it is built."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError

__all__ = ["NamedParameters", "OptimizerSpec", "require", "require_parameters", "require_rates"]

NamedParameters = Iterable[tuple[str, nn.Parameter]]
"""What `nn.Module.named_parameters()` returns."""


class OptimizerSpec(Configurable, ABC):
    """The settings of an optimizer, a frozen dataclass that knows how to build it.

    Settings can be compared, printed and written to JSON; the built optimizer holds the state.

    Example:
        >>> import torch, retrank as rr
        >>> spec = rr.optim.LazyAdam(lr=0.01)
        >>> rr.core.from_config(rr.core.to_config(spec)) == spec
        True
        >>> isinstance(spec.build(torch.nn.Linear(2, 1).named_parameters()), torch.optim.Optimizer)
        True
    """

    @abstractmethod
    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer.

        Args:
            named_parameters: names and parameters, as from `model.named_parameters()`. Names serve messages.

        Returns:
            An optimizer whose `state_dict` restores to a bit-identical continuation.

        Raises:
            ConfigError: no parameters.
        """


def require(condition: bool, expected: str, spec: OptimizerSpec) -> None:
    """Check a setting.

    Args:
        condition: what must hold.
        expected: the same in words.
        spec: shown in the message.

    Raises:
        ConfigError: it does not hold.
    """
    if not condition:
        raise ConfigError(expected, repr(spec), type(spec).__name__, "correct the setting")


def require_rates(spec: OptimizerSpec, *names: str) -> None:
    """Check that settings are finite and not negative.

    Args:
        spec: whose settings.
        names: of the settings.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        require(0 <= getattr(spec, name) < math.inf, f"a finite {name} >= 0", spec)


def require_parameters(named_parameters: NamedParameters, spec: OptimizerSpec) -> list[tuple[str, nn.Parameter]]:
    """Check that there is something to optimize.

    Args:
        named_parameters: names and parameters.
        spec: shown in the message.

    Returns:
        The pairs as a list.

    Raises:
        ConfigError: there are none.
    """
    listed = list(named_parameters)
    if not listed:
        raise ConfigError("at least one parameter", "none", type(spec).__name__, "pass model.named_parameters()")
    return listed
