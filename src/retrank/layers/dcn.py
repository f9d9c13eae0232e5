"""`DCN`: the cross network, several layers of feature crosses."""

import copy
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.hooks import has_hooks
from retrank.layers.cross import Cross
from retrank.ops.rank_one_crosses import rank_one_crosses

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
            raise ConfigError("one layer or more", f"num_layers={num_layers}", "DCN")
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
        if all(map(_is_rank_one, self.layers)) and not has_hooks(*self.layers.modules()):
            vectors = zip(*map(_rank_one_vectors, self.layers), strict=True)
            downs, kernels, biases = (torch.stack(vector) for vector in vectors)
            return rank_one_crosses(inputs, downs, kernels, biases)
        crossed = inputs
        for layer in self.layers:
            crossed = layer(inputs, crossed)
        return crossed


def _is_rank_one(layer: nn.Module) -> bool:
    """Return whether a layer is given by three vectors: rank one, without further options."""
    return (
        type(layer) is Cross
        and layer.projection_dim == 1
        and layer.diag_scale == 0
        and type(layer.preactivation) is nn.Identity
        and not any(map(is_lazy, layer.parameters()))
    )


def _rank_one_vectors(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors of a thin layer: down, kernel and bias, zeros if it has none."""
    thin: Any = layer
    kernel = thin.kernel[:, 0]
    return thin.down[0], kernel, torch.zeros_like(kernel) if thin.bias is None else thin.bias
