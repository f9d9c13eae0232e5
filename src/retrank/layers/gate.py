"""`Gate`: a mixture of experts' outputs, weighted for every row."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.linear import linear
from retrank.layers.mlp import MLP

__all__ = ["Gate"]


@final
class Gate(Configurable, nn.Module):
    """Mixes vectors by a softmax that depends on the input.

    Args:
        in_features: width of the input, None to take it from the first one.
        num_experts: how many vectors there are to mix.
        units: widths of ReLU layers before the softmax, none by default.

    Raises:
        ConfigError: a size below 1.

    Example:
        >>> import torch, retrank as rr
        >>> gate = rr.layers.Gate(4, num_experts=3)
        >>> gate(torch.rand(2, 4), torch.ones(2, 3, 5)).shape
        torch.Size([2, 5])

    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018.
    """

    def __init__(self, in_features: int | None, num_experts: int, *, units: Sequence[int] = ()) -> None:
        super().__init__()
        if num_experts < 1 or (in_features is not None and in_features < 1):
            raise ConfigError("positive sizes", f"in_features={in_features}, num_experts={num_experts}", "Gate")
        self.num_experts = num_experts
        self.hidden = MLP(in_features, units, final_activation=nn.ReLU()) if units else nn.Identity()
        self.logits = linear(units[-1] if units else in_features, num_experts, bias=False)

    def weights(self, inputs: Tensor) -> Tensor:
        """Return the share of each expert, `(batch, num_experts)`, which add up to 1 in a row.

        Args:
            inputs: `(batch, in_features)`.
        """
        return torch.softmax(self.logits(self.hidden(inputs)), dim=-1)

    def forward(self, inputs: Tensor, experts: Tensor) -> Tensor:
        """Mix the experts' outputs.

        Args:
            inputs: `(batch, in_features)`, on which the shares depend.
            experts: `(batch, num_experts, dim)`.

        Returns:
            `(batch, dim)`.

        Raises:
            ShapeError: not one row and vector for each input and expert.
        """
        if experts.dim() != 3 or experts.shape[:2] != (len(inputs), self.num_experts):
            raise ShapeError(
                f"experts of shape ({len(inputs)}, {self.num_experts}, dim)",
                str(tuple(experts.shape)),
                "Gate",
                "stack the experts' outputs in dimension 1",
            )
        return torch.einsum("be,bed->bd", self.weights(inputs), experts)
