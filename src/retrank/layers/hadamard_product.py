"""`HadamardProduct`: features multiplied element by element."""

import functools
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.layers.shapes import stack_fields

__all__ = ["HadamardProduct"]


@final
class HadamardProduct(Configurable, nn.Module):
    """The element-wise product of all features; of two features it is generalized matrix factorization.

    Example:
        >>> import torch, retrank as rr
        >>> rr.layers.HadamardProduct()([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])])
        tensor([[3., 8.]])

    Source: the GMF layer of He et al., Neural Collaborative Filtering, 2017.
    """

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Multiply the features.

        Args:
            inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`.

        Returns:
            `(batch, dim)`.

        Raises:
            ShapeError: no inputs, or inputs of different shape.
        """
        # Not torch.prod, whose backward pass waits for the device to count zeros.
        return functools.reduce(torch.mul, stack_fields(inputs, "HadamardProduct").unbind(1))
