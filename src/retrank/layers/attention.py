"""`FieldAttention`: features that attend to each other."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.layers.linear import linear
from retrank.layers.shapes import stack_fields

__all__ = ["FieldAttention"]


@final
class FieldAttention(Configurable, nn.Module):
    """Multi-head self-attention over the features of a row, in several layers.

    Every layer gives each feature a mixture of all features, one mixture per head, adds its own vector, and ends in a
    ReLU. After n layers a feature has met up to 2ⁿ others.

    Args:
        num_layers: how many layers.
        num_heads: how many mixtures a layer makes of each feature.
        head_dim: length of each mixture.
        residual: whether a feature's own vector, mapped to the new length, is added.
        dropout: share of the attention set to zero in training.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> attention = rr.layers.FieldAttention(num_layers=2, num_heads=2, head_dim=8)
        >>> attention([torch.rand(5, 4), torch.rand(5, 4), torch.rand(5, 4)]).shape  # 3 features of 2 heads of 8
        torch.Size([5, 48])

    Source: Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, 2019.
    Differs: the agreement of two features is divided by the square root of `head_dim`, as in transformers.
    """

    def __init__(
        self,
        *,
        num_layers: int = 3,
        num_heads: int = 2,
        head_dim: int = 16,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_layers, num_heads, head_dim) < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                "num_layers, num_heads and head_dim >= 1, and 0 <= dropout < 1",
                f"num_layers={num_layers}, num_heads={num_heads}, head_dim={head_dim}, dropout={dropout}",
                "FieldAttention",
            )
        width = num_heads * head_dim
        self.num_heads, self.head_dim, self.dropout = num_heads, head_dim, dropout
        self.projections = nn.ModuleList(
            linear(None if layer == 0 else width, (4 if residual else 3) * width, bias=False)
            for layer in range(num_layers)
        )

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Let the features of each row attend to each other.

        Args:
            inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`.

        Returns:
            `(batch, F · num_heads · head_dim)`.

        Raises:
            ShapeError: no inputs, or inputs of different shape.
        """
        features = stack_fields(inputs, "FieldAttention")
        for projection in self.projections:
            features = self._attend(projection(features))
        return features.flatten(1)

    def _attend(self, projected: Tensor) -> Tensor:
        num_parts = projected.shape[2] // (self.num_heads * self.head_dim)
        parts = projected.view(*projected.shape[:2], num_parts, self.num_heads, self.head_dim).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts[:3])
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        own = parts[3].flatten(2) if num_parts > 3 else 0
        return torch.relu(mixed.transpose(1, 2).flatten(2) + own)
