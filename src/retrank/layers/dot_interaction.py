"""`DotInteraction`: how much every feature agrees with every other."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from retrank.core.config import Configurable
from retrank.core.native import call, is_native
from retrank.layers.shapes import require_alike, stack_fields

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
        fields = inputs.unbind(1) if isinstance(inputs, Tensor) and inputs.dim() == 3 else inputs
        if not self.skip_gather and not isinstance(fields, Tensor) and _is_native(fields):
            pairs: Tensor = _Pairs.apply(self.self_interaction, *fields)  # type: ignore[no-untyped-call]
            return pairs
        features = stack_fields(inputs, "DotInteraction")
        products = features @ features.transpose(1, 2)
        diagonal = 0 if self.self_interaction else -1
        if self.skip_gather:
            return products.tril(diagonal).flatten(1)
        count = features.shape[1]
        row, column = torch.tril_indices(count, count, diagonal, device=products.device)
        return products[:, row, column]


def _is_native(fields: Sequence[Tensor]) -> bool:
    require_alike(fields, "DotInteraction", same_width=True)
    fits = all(field.dim() == 2 and (field.stride(1) == 1 or field.shape[1] == 1) for field in fields)
    return fits and not torch.is_autocast_enabled("cpu") and is_native(*fields)


class _Pairs(torch.autograd.Function):
    """All pairs of a row at a time, never all F² products of a batch."""

    @staticmethod
    def forward(ctx: Any, with_itself: bool, *fields: Tensor) -> Tensor:
        ctx.save_for_backward(*fields)
        ctx.with_itself = with_itself
        count, (batch, dim) = len(fields), fields[0].shape
        pairs = fields[0].new_empty(batch, count * (count - 1) // 2 + with_itself * count)
        call("dot_interaction", *_addresses(fields), batch, count, dim, int(with_itself), pairs)
        return pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        fields = ctx.saved_tensors
        count, (batch, dim) = len(fields), fields[0].shape
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        gradients = grad.new_empty(count, batch, dim)  # contiguous for each feature, so that autograd takes it as it is
        sizes = (batch, count, dim, int(ctx.with_itself))
        call("dot_interaction_backward", *_addresses(fields), *sizes, grad.data_ptr(), grad.stride(0), gradients)
        return None, *gradients.unbind(0)


def _addresses(fields: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return where each feature begins, and how many floats there are from row to row."""
    return torch.tensor([field.data_ptr() for field in fields]), torch.tensor([field.stride(0) for field in fields])
