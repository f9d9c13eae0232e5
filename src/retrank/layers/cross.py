"""`Cross`: explicit feature crosses of the deep and cross network."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.linear import materialize, unsized_parameter
from retrank.ops.dense import Dense, PreparedStack, dense

__all__ = ["Cross"]


@final
class Cross(LazyModuleMixin, Configurable, nn.Module):
    """One layer of feature crosses: x₀ ⊙ (act(W x + b) + diag_scale · x) + x.

    With `projection_dim` W is the product of two thin matrices, the inner one without bias and activation.

    Args:
        in_features: width of the input, None to take it from the first one.
        projection_dim: rank of W, None for a full matrix.
        diag_scale: added to the diagonal of W, after the activation; positive values stabilize training.
        bias: whether to add b.
        preactivation: the activation of W x + b, none by default.
        l2: factor of `regularization`.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> cross = rr.layers.Cross()
        >>> x1 = cross(x0 := torch.rand(2, 6))
        >>> cross(x0, x1).shape
        torch.Size([2, 6])

    Source: Wang et al., DCN V2: Improved Deep & Cross Network, 2021; `Cross` of TensorFlow Recommenders. The weights
    start Glorot-uniform as in Keras-RS, not truncated normal.
    """

    kernel: nn.Parameter
    """`(in_features, projection_dim or in_features)`."""
    down: nn.Parameter | None
    """`(projection_dim, in_features)`, only with `projection_dim`."""
    bias: nn.Parameter | None
    """`(in_features,)`."""

    def __init__(
        self,
        in_features: int | None = None,
        *,
        projection_dim: int | None = None,
        diag_scale: float = 0.0,
        bias: bool = True,
        preactivation: nn.Module | None = None,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        if any(size is not None and size < 1 for size in (in_features, projection_dim)):
            raise _config_error("positive sizes", f"in_features={in_features}, projection_dim={projection_dim}")
        if not (diag_scale >= 0 and l2 >= 0):
            raise _config_error("diag_scale >= 0 and l2 >= 0", f"diag_scale={diag_scale}, l2={l2}")
        self.projection_dim, self.diag_scale, self.l2 = projection_dim, diag_scale, l2
        self.preactivation = nn.Identity() if preactivation is None else preactivation
        self.kernel = unsized_parameter()
        self.register_parameter("down", None if projection_dim is None else unsized_parameter())
        self.register_parameter("bias", unsized_parameter() if bias else None)
        if in_features is not None:
            self._materialize(in_features)

    def initialize_parameters(self, x0: Tensor, x: Tensor | None = None) -> None:  # noqa: ARG002 (torch passes all)
        """Size the weights by the first input; torch calls this before the first `forward`."""
        if isinstance(self.kernel, nn.UninitializedParameter):
            self._materialize(x0.shape[-1])

    def forward(self, x0: Tensor, x: Tensor | None = None) -> Tensor:
        """Cross the original features with those of the layer below.

        Args:
            x0: `(..., in_features)`, the input of the whole cross network.
            x: `(..., in_features)`, the output of the layer below; `x0` in the first layer.

        Returns:
            `(..., in_features)`.

        Raises:
            ShapeError: the two differ in shape, or in width from the layer.
        """
        x = x0 if x is None else x
        width = len(self.kernel)
        if x0.shape != x.shape or x0.shape[-1:] != (width,):
            raise ShapeError(
                f"x0 and x of one shape (..., {width})",
                f"x0 {tuple(x0.shape)}, x {tuple(x.shape)}",
                "Cross",
                "concatenate the features first, and cross equally wide inputs",
            )
        projected = x if self.down is None else dense(x, self.down)
        crossed = self.preactivation(dense(projected, self.kernel, self.bias))
        if self.diag_scale:
            crossed = crossed + self.diag_scale * x
        return torch.addcmul(x, x0, crossed)

    def prepared(self) -> Callable[[Tensor], Tensor]:
        """Return what does the same as `forward` of one input in less time, for a model that does not change."""
        if self.down is not None or self.diag_scale or type(self.preactivation) is not nn.Identity:
            return self
        stack = PreparedStack([Dense(self.kernel, self.bias, rectified=False)])
        return lambda x: torch.addcmul(x, x, stack(x))

    def regularization(self) -> Tensor:
        """Return l2 times the sum of the squared weights, without the bias."""
        if self.l2 == 0:
            return torch.zeros((), device=self.kernel.device)
        penalty = self.kernel.square().sum()
        return self.l2 * (penalty if self.down is None else penalty + self.down.square().sum())

    def extra_repr(self) -> str:
        """Describe the layer within torch's module listing."""
        return f"projection_dim={self.projection_dim}, diag_scale={self.diag_scale}"

    def _materialize(self, width: int) -> None:
        rank = self.projection_dim or width
        materialize(self, kernel=(width, rank), bias=(width,), down=(rank, width))


def _config_error(expected: str, got: str) -> ConfigError:
    return ConfigError(expected, got, "Cross")
