"""Crosses of rank 1, all layers in one pass: what each layer sees is never in memory, and computed again to learn."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.native import call, is_native, num_threads, tile_shape
from retrank.ops.checks import described, require_floats
from retrank.ops.derivation import derive_by_torch

__all__ = ["rank_one_crosses"]


def rank_one_crosses(inputs: Tensor, down: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return x after x ← x + x₀ ⊙ ((down · x) kernel + bias) for every layer, from x = x₀ on.

    Args:
        inputs: `(..., dim)` floats, x₀.
        down: `(layers, dim)` of the same dtype.
        kernel: `(layers, dim)` likewise.
        bias: `(layers, dim)` likewise.

    Returns:
        `(..., dim)`, differentiable as often as you like.

    Raises:
        ShapeError: tensors that do not fit each other.

    Example:
        >>> import torch
        >>> from retrank.ops.rank_one_crosses import rank_one_crosses
        >>> ones = torch.ones(1, 2)
        >>> rank_one_crosses(torch.tensor([[1.0, 2.0]]), ones, ones, ones * 0)  # x + x₀ ⊙ 3
        tensor([[4., 8.]])
    """
    _check(inputs, down, kernel, bias)
    if torch.is_autocast_enabled("cpu") or inputs.shape[-1] == 0 or not is_native(inputs, down, kernel, bias):
        return _by_torch(inputs, down, kernel, bias)
    rows = inputs if inputs.dim() == 2 else inputs.reshape(-1, inputs.shape[-1])
    outputs: Tensor = _RankOneCrosses.apply(rows, down, kernel, bias)  # type: ignore[no-untyped-call]
    return outputs.view(inputs.shape)


def _check(inputs: Tensor, down: Tensor, kernel: Tensor, bias: Tensor) -> None:
    parameters, names = (down, kernel, bias), ("down", "kernel", "bias")
    require_floats("rank_one_crosses", (inputs, *parameters), ("inputs", *names))
    if inputs.dim() == 0 or down.dim() != 2:
        raise _error("inputs (..., dim) and down (layers, dim)", f"{described(inputs)} and {described(down)}", "inputs")
    shape = (len(down), inputs.shape[-1])
    for parameter, name in zip(parameters, names, strict=True):
        if parameter.shape != shape:
            raise _error(f"shape {shape}", described(parameter), name)


def _error(expected: str, got: str, name: str) -> ShapeError:
    return ShapeError(expected, got, f"rank_one_crosses, {name}", "give all the width of the inputs")


def _by_torch(inputs: Tensor, down: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    crossed = inputs
    for layer in range(len(down)):
        scales = F.linear(crossed, down[layer : layer + 1])
        crossed = torch.addcmul(crossed, inputs, scales * kernel[layer] + bias[layer])
    return crossed


class _RankOneCrosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, *parameters)
        padded = [_padded(parameter) for parameter in parameters]
        inputs = inputs.contiguous()
        outputs = torch.empty_like(inputs)
        call("rank_one_crosses", *inputs.shape, *padded[0].shape, inputs, *padded, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            return derive_by_torch(_by_torch, (inputs, *parameters), grad, ctx.needs_input_grad)
        padded, inputs = [_padded(parameter) for parameter in parameters], inputs.contiguous()
        of_inputs = torch.empty_like(inputs)
        copies = inputs.new_zeros(num_threads(), 3, *padded[0].shape)
        sizes = (*inputs.shape, *padded[0].shape)
        call("rank_one_crosses_backward", *sizes, inputs, grad.contiguous(), *padded, of_inputs, copies)
        return of_inputs, *copies.sum(dim=0)[..., : inputs.shape[1]].unbind(0)


def _padded(parameter: Tensor) -> Tensor:
    """Fill rows up with zeros to whole registers."""
    _, _, lanes = tile_shape()
    return F.pad(parameter, (0, -parameter.shape[1] % lanes)).contiguous()
