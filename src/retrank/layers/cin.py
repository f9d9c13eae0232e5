"""`CIN`: the compressed interaction network of xDeepFM."""

import copy
import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.linear import linear
from retrank.layers.shapes import stack_fields

__all__ = ["CIN"]


@final
class CIN(Configurable, nn.Module):
    """Explicit feature crosses of vectors, one order higher with every layer.

    Each vector of layer k is a learned sum, over all pairs of a vector of layer k - 1 and an input feature, of their
    elementwise products. The output holds the sum of the elements of every vector of every layer.

    Args:
        num_features: how many vectors come in, None to take it from the first input.
        units: vectors of each layer, at least one layer.
        activation: of each layer's vectors; each layer has its own copy. None for none.

    Raises:
        ConfigError: no layers, or a size below 1.

    Example:
        >>> import torch, retrank as rr
        >>> rr.layers.CIN(None, [8, 4])([torch.rand(3, 16) for _ in range(5)]).shape
        torch.Size([3, 12])

    Source: Lian et al., xDeepFM, KDD 2018, whose experiments prefer no activation. Every vector goes both to the output
    and to the next layer, as in the paper's formulas; there is no bias.
    """

    def __init__(
        self, num_features: int | None, units: Sequence[int] = (128, 128), *, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        if not units or any(size is not None and size < 1 for size in (num_features, *units)):
            raise ConfigError(
                "one layer or more, of positive sizes", f"num_features={num_features}, units={units}", "CIN"
            )
        self.out_features = sum(units)
        self.linears = nn.ModuleList(
            linear(None if num_features is None else num_features * below, width, bias=False)
            for below, width in zip([num_features or 0, *units], units, strict=False)
        )
        chosen = nn.Identity() if activation is None else activation
        self.activations = nn.ModuleList(copy.deepcopy(chosen) for _ in units)

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Cross the features.

        Args:
            inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`.

        Returns:
            `(batch, sum(units))`.

        Raises:
            ShapeError: inputs of different shape, or another number of them than the layer has.
        """
        stacked = stack_fields(inputs, "CIN")
        self._check(stacked.shape[1])
        features = stacked.transpose(1, 2)  # (batch, dim, F), so that a layer is one linear map
        crossed, sums = features, []
        for layer, activation in zip(self.linears, self.activations, strict=True):
            pairs = crossed.unsqueeze(3) * features.unsqueeze(2)
            crossed = activation(layer(pairs.flatten(2)))
            sums.append(crossed.sum(dim=1))
        return torch.cat(sums, dim=1)

    def _check(self, num_features: int) -> None:
        first: Any = self.linears[0]
        if not isinstance(first.weight, nn.UninitializedParameter) and num_features**2 != first.weight.shape[1]:
            built_for = math.isqrt(first.weight.shape[1])
            raise ShapeError(f"{built_for} features", str(num_features), "CIN", "pass the features it was built for")
