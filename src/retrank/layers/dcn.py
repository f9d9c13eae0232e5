"""`DCN`: the cross network, several layers of feature crosses."""

import copy
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.layers.cross import Cross
from retrank.ops.rank_one_crosses import can_fuse_crosses, rank_one_crosses

__all__ = ["DCN"]


@final
class DCN(Configurable, nn.Module):
    """A stack of `Cross` layers: n of them contain all feature crosses up to order n + 1.

    The same settings hold for every layer.

    Args:
        in_features: width of the input, None to take it from the first one.
        num_layers: how many layers.
        projection_dim: rank of their matrices, None for full ones.
        diag_scale: added to the diagonal of each matrix, after the activation.
        bias: whether the layers add one.
        preactivation: the activation within each layer, which has its own copy; none by default.
        l2: factor of each layer's `regularization`.

    Raises:
        ConfigError: no layers, or an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> rr.layers.DCN(num_layers=2, projection_dim=4)(torch.rand(3, 10)).shape
        torch.Size([3, 10])

    Source: Wang et al., DCN V2: Improved Deep & Cross Network, 2021; `MultiLayerDCN` of TensorFlow Recommenders, which
    knows neither full matrices nor activations.
    """

    def __init__(
        self,
        in_features: int | None = None,
        *,
        num_layers: int = 3,
        projection_dim: int | None = 1,
        diag_scale: float = 0.0,
        bias: bool = True,
        preactivation: nn.Module | None = None,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ConfigError("one layer or more", f"num_layers={num_layers}", "DCN", "correct the argument")
        self._is_thin = projection_dim == 1 and diag_scale == 0 and preactivation is None
        self.layers = nn.ModuleList(
            Cross(
                in_features,
                projection_dim=projection_dim,
                diag_scale=diag_scale,
                bias=bias,
                preactivation=copy.deepcopy(preactivation),
                l2=l2,
            )
            for _ in range(num_layers)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Cross the features with themselves, layer after layer.

        Args:
            inputs: `(..., in_features)`.

        Returns:
            `(..., in_features)`.

        Raises:
            ShapeError: another width than that of the layers.
        """
        if self._is_thin and inputs.dim() == 2 and not any(map(is_lazy, self.parameters())):
            downs, kernels, biases = (list(parts) for parts in zip(*map(_parts, self.layers), strict=True))
            if inputs.shape[1] == kernels[0].shape[0] and can_fuse_crosses(inputs, *kernels):
                return rank_one_crosses(inputs, torch.stack(downs), torch.stack(kernels), torch.stack(biases))
        crossed = inputs
        for layer in self.layers:
            crossed = layer(inputs, crossed)
        return crossed


def _parts(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors of a cross of rank 1: down, kernel and bias, zeros if it has none."""
    assert isinstance(layer, Cross)
    assert layer.down is not None
    kernel = layer.kernel[:, 0]
    return layer.down[0], kernel, torch.zeros_like(kernel) if layer.bias is None else layer.bias
