"""`TwoStreamMLP`: two multilayer perceptrons whose outputs are multiplied."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.linear import linear
from retrank.layers.mlp import MLP

__all__ = ["TwoStreamMLP"]


@final
class TwoStreamMLP(Configurable, nn.Module):
    """Two MLPs o₁ and o₂ on all features, fused as w₁·o₁ + w₂·o₂ + b plus, for every head h, o₁ₕᵀ Wₕ o₂ₕ.

    A stream may weigh the features first: a gate of one hidden layer looks at the features that are its context, and
    scales every number of every feature by a factor between 0 and 2. Different contexts let the streams differ.

    Args:
        widths: the width of each feature.
        first_units: width of each layer of the first MLP.
        second_units: width of each layer of the second MLP.
        num_heads: into how many parts each output is cut; only equal parts are multiplied.
        first_context: places in `widths` of the features that the gate of the first stream looks at; None for no gate.
        second_context: the same for the second stream.
        gate_units: width of the hidden layer of the gates.
        dropout: share of the hidden values of the MLPs set to zero in training.

    Raises:
        ConfigError: outputs that cannot be cut into as many heads, or a context that is empty or out of range.

    Example:
        >>> import torch, retrank as rr
        >>> layer = rr.layers.TwoStreamMLP([4, 2], [16, 8], [8], num_heads=2, first_context=[0], second_context=[1])
        >>> layer([torch.rand(3, 4), torch.rand(3, 2)]).shape
        torch.Size([3, 1])

    Source: Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, 2023.
    """

    def __init__(
        self,
        widths: Sequence[int],
        first_units: Sequence[int],
        second_units: Sequence[int],
        *,
        num_heads: int = 1,
        first_context: Sequence[int] | None = None,
        second_context: Sequence[int] | None = None,
        gate_units: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.widths, total = tuple(widths), sum(widths)
        self.first, self.second = (MLP(total, units, dropout=dropout) for units in (first_units, second_units))
        sizes = self.first.out_features, self.second.out_features
        if num_heads < 1 or any(size % num_heads for size in sizes):
            raise _config_error("outputs that num_heads divides", f"widths {sizes} and num_heads={num_heads}")
        self.num_heads = num_heads
        self.first_context = None if first_context is None else tuple(first_context)
        self.second_context = None if second_context is None else tuple(second_context)
        self.first_gate, self.second_gate = (
            None if context is None else MLP(self._context_width(context), [gate_units, total])
            for context in (self.first_context, self.second_context)
        )
        self.terms = linear(sum(sizes), 1, bias=True)
        self.products = nn.Parameter(torch.empty(num_heads, sizes[0] // num_heads, sizes[1] // num_heads))
        for product in self.products.data:
            nn.init.xavier_uniform_(product)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Score rows.

        Args:
            inputs: a tensor `(batch, width)` per feature, with the layer's `widths`.

        Returns:
            `(batch, 1)`.

        Raises:
            ShapeError: other widths.
        """
        widths = tuple(vector.shape[-1] for vector in inputs)
        if widths != self.widths:
            raise ShapeError(
                f"features of width {self.widths}", str(widths), "TwoStreamMLP", "build the layer with these widths"
            )
        features = torch.cat(list(inputs), dim=1)
        first = self.first(_gated(features, inputs, self.first_gate, self.first_context))
        second = self.second(_gated(features, inputs, self.second_gate, self.second_context))
        heads = [stream.unflatten(1, (self.num_heads, -1)) for stream in (first, second)]
        product = torch.einsum("bhi,hij,bhj->b", heads[0], self.products, heads[1])
        terms: Tensor = self.terms(torch.cat([first, second], dim=1))
        return terms + product.unsqueeze(1)

    def _context_width(self, context: Sequence[int]) -> int:
        if not context or not all(0 <= place < len(self.widths) for place in context):
            raise _config_error(f"a context of places in [0, {len(self.widths)})", str(list(context)))
        return sum(self.widths[place] for place in context)


def _gated(features: Tensor, inputs: Sequence[Tensor], gate: MLP | None, context: Sequence[int] | None) -> Tensor:
    if gate is None or context is None:
        return features
    seen = torch.cat([inputs[place] for place in context], dim=1)
    return 2 * torch.sigmoid(gate(seen)) * features


def _config_error(expected: str, got: str) -> ConfigError:
    return ConfigError(expected, got, "TwoStreamMLP")
