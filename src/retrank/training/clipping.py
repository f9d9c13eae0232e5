"""Gradient clipping for dense and row-sparse gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from retrank.ops.row_sparse import merge_rows

__all__ = ["clip_gradients"]


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients down together if their joint norm is too large.

    The host does not wait for the norm; row-sparse gradients wait once for the number of their rows.

    Args:
        parameters: those whose `.grad` counts; parameters without gradient are left out.
        max_norm: the largest allowed Euclidean norm.

    Returns:
        Scalar: the norm before clipping.

    Example:
        >>> import torch, retrank as rr
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> rr.training.clip_gradients([weight], max_norm=1.0), weight.grad
        (tensor(5.), tensor([0.6000, 0.8000]))

    Source: `torch.nn.utils.clip_grad_norm_`, which refuses row-sparse gradients.
    """
    gradients: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            rows, values = merge_rows(parameter.grad)  # a row that occurs twice has one gradient, the sum
            parameter.grad = torch.sparse_coo_tensor(
                rows[None], values, parameter.shape, is_coalesced=True, check_invariants=False
            )
            gradients.append(values)
        else:
            gradients.append(parameter.grad)
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    scale = (max_norm / norm).clamp(max=1.0)  # norm 0 gives infinity, clamped to 1; a NaN stays visible in the weights
    for gradient in gradients:
        gradient.mul_(scale)
    return norm
