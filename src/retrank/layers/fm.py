"""`FM`: the second-order term of a factorization machine."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.layers.shapes import stack_fields

__all__ = ["FM"]


@final
class FM(Configurable, nn.Module):
    """The sum of the dot products of all pairs of features, in time linear in their number.

    Example:
        >>> import torch, retrank as rr
        >>> features = [torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 4.0]])]
        >>> rr.layers.FM()(features)  # 2 + 0 + 12
        tensor([[14.]])

    Source: Rendle, Factorization Machines, ICDM 2010, without bias and linear terms, which a model adds as tables of
    dim 1.
    """

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Add up the products of all pairs.

        Args:
            inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`; a feature's number may be multiplied in.

        Returns:
            `(batch, 1)`; 0 for a single feature.

        Raises:
            ShapeError: no inputs, or inputs of different shape.
        """
        features = stack_fields(inputs, "FM")
        pairs = features.sum(dim=1).square() - features.square().sum(dim=1)
        return pairs.sum(dim=1, keepdim=True) / 2
