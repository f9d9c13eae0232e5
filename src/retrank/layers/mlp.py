"""`MLP`: a stack of dense layers."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.hooks import has_hooks
from retrank.layers.linear import is_linear, linear
from retrank.ops.dense import Dense, PreparedStack, dense_stack

__all__ = ["MLP"]


@final
class MLP(Configurable, nn.Module):
    """Dense layers with an activation between them.

    Weights start Glorot-uniform, biases at zero. Dropout follows every activation but the last.

    Args:
        in_features: width of the input, None to take it from the first one.
        units: width of each layer, at least one.
        activation: after every layer but the last; each layer has its own copy. None for none.
        final_activation: after the last layer, none by default.
        dropout: share of the hidden values set to zero in training.
        bias: whether the layers add one.
        l2: factor of `regularization`.

    Raises:
        ConfigError: no units, or an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> score = rr.layers.MLP(None, [64, 1], final_activation=torch.nn.Sigmoid())
        >>> score(torch.rand(3, 10)).shape
        torch.Size([3, 1])

    Source: `layers.blocks.MLP` of TensorFlow Recommenders.
    """

    def __init__(
        self,
        in_features: int | None,
        units: Sequence[int],
        *,
        activation: nn.Module | None = nn.ReLU(),  # noqa: B008 (copied, never changed)
        final_activation: nn.Module | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [in_features, *units]
        if not units or any(size is not None and size < 1 for size in sizes):
            raise _config_error("one layer or more, of positive sizes", f"in_features={in_features}, units={units}")
        if not (0 <= dropout < 1 and l2 >= 0):
            raise _config_error("0 <= dropout < 1 and l2 >= 0", f"dropout={dropout}, l2={l2}")
        self.l2 = l2
        self.linears = nn.ModuleList(
            linear(before, after, bias=bias) for before, after in zip(sizes[:-1], units, strict=True)
        )
        hidden = nn.Identity() if activation is None else activation
        self.activations = nn.ModuleList(copy.deepcopy(hidden) for _ in units[:-1])
        self.activations.append(nn.Identity() if final_activation is None else copy.deepcopy(final_activation))
        for copied in self.activations:
            if isinstance(copied, nn.ReLU):
                copied.inplace = True  # the output of a linear map is referenced nowhere else, and not needed again
        self.dropout = nn.Dropout(dropout)

    @property
    def out_features(self) -> int:
        """The width of the output."""
        last = self.linears[-1]
        assert isinstance(last, nn.Linear)
        return last.out_features

    def forward(self, inputs: Tensor) -> Tensor:
        """Pass values through all layers.

        Args:
            inputs: `(..., in_features)` floats.

        Returns:
            `(..., units[-1])`.

        Raises:
            ShapeError: integers, a scalar, or another width than that of the first layer.
        """
        self._check(inputs)
        if self._is_plain():
            return dense_stack(inputs, self._stack())
        last = len(self.linears) - 1
        for place, (layer, activation) in enumerate(zip(self.linears, self.activations, strict=True)):
            inputs = activation(layer(inputs))
            if place < last:
                inputs = self.dropout(inputs)
        return inputs

    def prepared(self) -> Callable[[Tensor], Tensor]:
        """Return what does the same as `forward` in less time, for a model that is served and does not change."""
        return PreparedStack(self._stack()) if self._is_plain() else self

    def regularization(self) -> Tensor:
        """Return l2 times the sum of the squared weights, without the biases."""
        weights = [layer.weight for layer in self.linears if isinstance(layer, nn.Linear)]
        if self.l2 == 0:
            return torch.zeros((), device=weights[0].device)
        return self.l2 * torch.stack([weight.square().sum() for weight in weights]).sum()

    def _stack(self) -> list[Dense]:
        layers: Any = zip(self.linears, self.activations, strict=True)
        return [Dense(layer.weight, layer.bias, isinstance(activation, nn.ReLU)) for layer, activation in layers]

    def _is_plain(self) -> bool:
        """Return whether the layers do nothing but what `dense_stack` does in one pass."""
        activations = all(type(module) in (nn.ReLU, nn.Identity) for module in self.activations)
        drops = self.training and self.dropout.p > 0
        modules = [*self.linears, *self.activations, self.dropout]
        return activations and not drops and all(is_linear(layer) for layer in self.linears) and not has_hooks(*modules)

    def _check(self, inputs: Tensor) -> None:
        first: Any = self.linears[0]
        known = not isinstance(first.weight, nn.UninitializedParameter)
        width = first.weight.shape[1] if known else "width"
        if not inputs.is_floating_point() or inputs.dim() == 0 or (known and inputs.shape[-1] != width):
            raise ShapeError(
                f"floats of shape (..., {width})",
                f"{inputs.dtype} of shape {tuple(inputs.shape)}",
                "MLP",
                "concatenate the features to one vector per row",
            )


def _config_error(expected: str, got: str) -> ConfigError:
    return ConfigError(expected, got, "MLP")
