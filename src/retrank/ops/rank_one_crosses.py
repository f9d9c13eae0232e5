"""Crosses of rank 1, all layers in one pass: what each layer sees is never in memory, and computed again to learn."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from retrank.core.native import call, is_native, tile_shape

__all__ = ["can_fuse_crosses", "rank_one_crosses"]


def can_fuse_crosses(inputs: Tensor, *parameters: Tensor) -> bool:
    """Say whether `rank_one_crosses` takes these tensors.

    Args:
        inputs: of the network.
        parameters: its weights.

    Returns:
        Whether all are float32 on the CPU, outside of autocast, the inputs `(batch, dim)`, and the kernels there.
    """
    return inputs.dim() == 2 and not torch.is_autocast_enabled("cpu") and is_native(inputs, *parameters)


def rank_one_crosses(inputs: Tensor, down: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return x after x ← x + x₀ ⊙ ((down · x) kernel + bias) for every layer, from x = x₀ on.

    Args:
        inputs: `(batch, dim)`, x₀; see `can_fuse_crosses`.
        down: `(layers, dim)`.
        kernel: `(layers, dim)`.
        bias: `(layers, dim)`.

    Returns:
        `(batch, dim)`, differentiable once.
    """
    outputs: Tensor = _RankOneCrosses.apply(inputs, down, kernel, bias)  # type: ignore[no-untyped-call]
    return outputs


class _RankOneCrosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, down: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        _, _, lanes = tile_shape()
        filling = (0, -inputs.shape[1] % lanes)
        inputs, *parameters = (inputs.contiguous(), *(F.pad(tensor, filling) for tensor in (down, kernel, bias)))
        outputs = torch.empty_like(inputs)
        call("rank_one_crosses", inputs, *inputs.shape, *parameters[0].shape, *parameters, outputs)
        ctx.save_for_backward(inputs, *parameters)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        inputs, *parameters = ctx.saved_tensors
        input_gradient = torch.empty_like(inputs)
        copies = inputs.new_zeros(torch.get_num_threads(), 3, *parameters[0].shape)
        sizes = (*inputs.shape, *parameters[0].shape)
        call("rank_one_crosses_backward", inputs, grad.contiguous(), *sizes, *parameters, input_gradient, copies)
        return input_gradient, *copies.sum(dim=0)[..., : inputs.shape[1]].unbind(0)
