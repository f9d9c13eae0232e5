"""`DotInteraction`: how much every feature agrees with every other."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.layers.shapes import stack_fields
from retrank.ops.dot_interaction import dot_interaction

__all__ = ["DotInteraction"]


@final
class DotInteraction(Configurable, nn.Module):
    """The dot product of every pair of features.

    Args:
        self_interaction: count the pair of each feature with itself.
        skip_gather: return all F² products with those above the diagonal as zeros, instead of the pairs alone.

    Example:
        >>> import torch, retrank as rr
        >>> features = [torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 4.0]])]
        >>> rr.layers.DotInteraction()(features)  # pairs (1, 0), (2, 0), (2, 1)
        tensor([[ 2.,  0., 12.]])

    Source: Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019;
    the order is that of TensorFlow Recommenders.
    """

    def __init__(self, *, self_interaction: bool = False, skip_gather: bool = False) -> None:
        super().__init__()
        self.self_interaction, self.skip_gather = self_interaction, skip_gather

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Multiply all pairs.

        Args:
            inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`.

        Returns:
            `(batch, F (F - 1) / 2)`, the lower triangle row by row; with the diagonal `(batch, F (F + 1) / 2)`;
            with `skip_gather` `(batch, F²)`.

        Raises:
            ShapeError: no inputs, or inputs of different shape.
        """
        if not self.skip_gather:
            fields = stack_fields(inputs, "DotInteraction").unbind(1) if isinstance(inputs, Tensor) else inputs
            return dot_interaction(fields, self_interaction=self.self_interaction)
        features = stack_fields(inputs, "DotInteraction")
        products = features @ features.transpose(1, 2)
        return products.tril(0 if self.self_interaction else -1).flatten(1)
