"""torch's own optimizers as specs: `Adam`, `AdamW`, `SGD`."""

from dataclasses import KW_ONLY, asdict, dataclass
from typing import final

import torch

from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_betas, require_parameters, require_rates
from retrank.optim.torch_optimizers import CheckedAdam, CheckedAdamW, CheckedSGD

__all__ = ["SGD", "Adam", "AdamW"]


@final
@dataclass(frozen=True)
class Adam(OptimizerSpec):
    """`torch.optim.Adam`, for dense gradients.

    Args:
        lr: learning rate; a scheduler may change it.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
        weight_decay: adds weight_decay · w to the gradient (L2).

    Raises:
        ConfigError: a setting out of range; when stepping, a row-sparse gradient: use `LazyAdam` for tables.

    Example:
        >>> import torch, retrank as rr
        >>> optimizer = rr.optim.Adam(lr=1e-3).build(torch.nn.Linear(2, 1).named_parameters())
        >>> isinstance(optimizer, torch.optim.Adam)
        True

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015.
    """

    lr: float = 1e-3
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_adam(self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        parameters = require_parameters(named_parameters, self)
        return CheckedAdam(parameters, fused=True, **asdict(self))


@final
@dataclass(frozen=True)
class AdamW(OptimizerSpec):
    """`torch.optim.AdamW`, for dense gradients.

    Args:
        lr: learning rate; a scheduler may change it.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, w ← w - lr · weight_decay · w.

    Raises:
        ConfigError: a setting out of range; when stepping, a row-sparse gradient: use `LazyAdam` for tables.

    Example:
        >>> import torch, retrank as rr
        >>> optimizer = rr.optim.AdamW(lr=1e-3).build(torch.nn.Linear(2, 1).named_parameters())
        >>> isinstance(optimizer, torch.optim.AdamW)
        True

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """

    lr: float = 1e-3
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check_adam(self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        parameters = require_parameters(named_parameters, self)
        return CheckedAdamW(parameters, fused=True, **asdict(self))


@final
@dataclass(frozen=True)
class SGD(OptimizerSpec):
    """`torch.optim.SGD`.

    Without momentum and weight decay it takes row-sparse gradients too, with the result of the dense ones.

    Args:
        lr: learning rate; a scheduler may change it.
        momentum: share of the previous step that is taken again.
        weight_decay: adds weight_decay · w to the gradient (L2).

    Raises:
        ConfigError: a setting out of range; when stepping with momentum or weight decay, a row-sparse gradient; without
            them, one of a table in half precision, whose small steps torch's rounding would lose.

    Example:
        >>> import torch, retrank as rr
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = rr.optim.SGD(lr=0.5).build([("w", w)])
        >>> w.grad = torch.tensor([1.0])
        >>> optimizer.step()
        >>> w.data
        tensor([0.5000])
    """

    lr: float = 0.01
    _: KW_ONLY
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_rates(self, "lr", "weight_decay")
        require(0 <= self.momentum < 1, "momentum in [0, 1)", self)

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        parameters = require_parameters(named_parameters, self)
        return CheckedSGD(parameters, **asdict(self))


def _check_adam(spec: Adam | AdamW) -> None:
    require_rates(spec, "lr", "eps", "weight_decay")
    require_betas(spec)
