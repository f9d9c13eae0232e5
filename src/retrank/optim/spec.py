"""`OptimizerSpec`: what every optimizer of the package is before it is built."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError

__all__ = [
    "NamedParameters",
    "OptimizerSpec",
    "require",
    "require_betas",
    "require_eps",
    "require_parameters",
    "require_rates",
]

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
        value = getattr(spec, name)
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        require(is_number and 0 <= float(value) < math.inf, f"a finite {name} >= 0", spec)


def require_eps(spec: Any) -> None:
    """Check that what keeps a denominator from 0 does so in float32 as well.

    Args:
        spec: has an eps.

    Raises:
        ConfigError: it is smaller than all normal numbers.
    """
    require(spec.eps >= torch.finfo(torch.float32).tiny, "eps > 0 that is not 0 in float32", spec)


def require_betas(spec: Any) -> None:
    """Check the two betas of Adam, and make them a tuple: JSON knows lists only.

    Args:
        spec: has betas; a frozen dataclass that is being made.

    Raises:
        ConfigError: other than two, or one outside of [0, 1).
    """
    betas = spec.betas
    fits = isinstance(betas, Sequence) and len(betas) == 2 and all(isinstance(beta, Real) for beta in betas)
    require(fits and all(0 <= float(beta) < 1 for beta in betas), "two betas in [0, 1)", spec)
    object.__setattr__(spec, "betas", tuple(betas))


def require_parameters(named_parameters: NamedParameters, spec: OptimizerSpec) -> list[tuple[str, nn.Parameter]]:
    """Check that there is something to optimize.

    Args:
        named_parameters: names and parameters; parameters without a name are named by their place.
        spec: shown in the message.

    Returns:
        The pairs as a list.

    Raises:
        ConfigError: there are none, or one of them comes twice.
    """
    given: Iterable[Any] = named_parameters
    listed: list[tuple[str, nn.Parameter]] = [
        (f"{place}", item) if isinstance(item, nn.Parameter) else item for place, item in enumerate(given)
    ]
    if not listed:
        raise ConfigError("at least one parameter", "none", type(spec).__name__, "pass model.named_parameters()")
    names: dict[nn.Parameter, str] = {}
    for name, parameter in listed:
        if parameter in names:  # it would take two steps at once
            raise ConfigError(
                "every parameter once",
                f"the same one as '{names[parameter]}' and '{name}'",
                type(spec).__name__,
                "pass model.named_parameters()",
            )
        names[parameter] = name
    return listed
