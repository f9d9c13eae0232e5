"""`Concatenate`: features as one vector."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.layers.shapes import concatenate, require_alike

__all__ = ["Concatenate"]


@final
class Concatenate(Configurable, nn.Module):
    """Concatenates all features into one vector, for use in `nn.Sequential`.

    Example:
        >>> import torch, retrank as rr
        >>> rr.layers.Concatenate()([torch.ones(1, 2), torch.zeros(1, 1)])
        tensor([[1., 1., 0.]])
    """

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Join along the last dimension.

        Args:
            inputs: tensors `(batch, width)`, each of any width.

        Returns:
            `(batch, sum of the widths)`.

        Raises:
            ShapeError: no inputs, or one with other rows than the first.
        """
        require_alike(inputs, "Concatenate", same_width=False)
        return concatenate(inputs)
