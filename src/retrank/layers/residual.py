"""`Residual`: a dense block that adds to its input."""

import copy
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.linear import materialize, unsized_parameter

__all__ = ["Residual"]


@final
class Residual(LazyModuleMixin, Configurable, nn.Module):
    """A block for deep towers: x + V act(U norm(x) + c) + b, norm shifting and scaling each row to mean 0, variance 1.

    Stack several in `nn.Sequential`; all have the width of their input. A `hidden` below that width makes it low-rank.

    Args:
        in_features: width of the input and the output, None to take it from the first input.
        hidden: width inside.
        activation: inside, copied; ReLU by default.
        dropout: share of the inner values set to zero in training.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> tower = torch.nn.Sequential(rr.layers.Residual(hidden=64), rr.layers.Residual(hidden=64))
        >>> tower(torch.rand(3, 10)).shape
        torch.Size([3, 10])

    Source: Shan et al., Deep Crossing, KDD 2016, with the normalization before the block as in Xiong et al., ICML 2020;
    Merlin's `DenseResidualBlock` normalizes after it.
    """

    inner: nn.Parameter
    """`(hidden, in_features)`."""
    inner_bias: nn.Parameter
    """`(hidden,)`."""
    outer: nn.Parameter
    """`(in_features, hidden)`."""
    outer_bias: nn.Parameter
    """`(in_features,)`."""

    def __init__(
        self,
        in_features: int | None = None,
        hidden: int = 128,
        *,
        activation: nn.Module = nn.ReLU(),  # noqa: B008 (copied, never changed)
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden < 1 or (in_features is not None and in_features < 1) or not 0 <= dropout < 1:
            raise ConfigError(
                "positive sizes and 0 <= dropout < 1",
                f"in_features={in_features}, hidden={hidden}, dropout={dropout}",
                "Residual",
            )
        self.hidden = hidden
        self.activation, self.dropout = copy.deepcopy(activation), nn.Dropout(dropout)
        self.inner, self.inner_bias = unsized_parameter(), unsized_parameter()
        self.outer, self.outer_bias = unsized_parameter(), unsized_parameter()
        if in_features is not None:
            self._materialize(in_features)

    def initialize_parameters(self, inputs: Tensor) -> None:
        """Size the weights by the first input; torch calls this before the first `forward`."""
        if isinstance(self.inner, nn.UninitializedParameter):
            self._materialize(inputs.shape[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Add the block's output to its input.

        Args:
            inputs: `(..., in_features)`.

        Returns:
            `(..., in_features)`.

        Raises:
            ShapeError: another width than that of the layer.
        """
        width = len(self.outer)
        if inputs.shape[-1:] != (width,):
            raise ShapeError(f"shape (..., {width})", str(tuple(inputs.shape)), "Residual")
        normal = F.layer_norm(inputs, (width,))
        hidden = self.dropout(self.activation(F.linear(normal, self.inner, self.inner_bias)))
        return inputs + F.linear(hidden, self.outer, self.outer_bias)

    def _materialize(self, width: int) -> None:
        materialize(self, inner=(self.hidden, width), inner_bias=(self.hidden,))
        materialize(self, outer=(width, self.hidden), outer_bias=(width,))
