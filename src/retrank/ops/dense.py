"""`dense` and `dense_stack`: linear maps, and stacks of them with ReLU between, at the speed of the processor."""

from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.native import call, is_native

__all__ = ["Dense", "dense", "dense_stack"]

_FEW_ROWS: Final = 32  # fewer do not repay laying out the weights
_LINE: Final = 16  # floats in a cache line
_TILE: Final = 16  # no processor has more rows in a tile


@final
class Dense(NamedTuple):
    """A layer of a stack: max(0, inputs · weightᵀ + bias), or without the max."""

    weight: Tensor
    """`(out_features, in_features)`."""
    bias: Tensor | None
    """`(out_features,)`."""
    rectified: bool
    """Whether ReLU follows."""


def dense(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return inputs · weightᵀ + bias.

    Args:
        inputs: `(..., in_features)`.
        weight: `(out_features, in_features)`.
        bias: `(out_features,)` or None.

    Returns:
        `(..., out_features)`.
    """
    return dense_stack(inputs, [Dense(weight, bias, rectified=False)])


def dense_stack(inputs: Tensor, layers: Sequence[Dense]) -> Tensor:
    """Pass values through dense layers.

    On the CPU a kernel takes a block of rows through all layers while it is in the cache, and applies biases, ReLU and
    its gradient where a product is summed; torch multiplies first and reads everything again for each.

    Args:
        inputs: `(..., in_features)`.
        layers: at least one, each of the width that the one before gives.

    Returns:
        `(..., out_features of the last)`, differentiable as often as you like.
    """
    parameters = [
        tensor.contiguous() for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None
    ]
    num_rows = inputs.numel() // max(inputs.shape[-1], 1)
    is_plain = num_rows >= _FEW_ROWS and not torch.is_autocast_enabled("cpu") and is_native(inputs, *parameters)
    if not is_plain or not _fit(inputs.shape[-1], layers):
        return _by_torch(inputs, layers)
    shape = tuple((layer.bias is not None, layer.rectified) for layer in layers)
    flat = inputs if inputs.dim() == 2 else inputs.reshape(num_rows, inputs.shape[-1])
    outputs: Tensor = _DenseStack.apply(shape, torch.is_grad_enabled(), flat, *parameters)  # type: ignore[no-untyped-call]
    return outputs if inputs.dim() == 2 else outputs.view(*inputs.shape[:-1], outputs.shape[1])


def _fit(width: int, layers: Sequence[Dense]) -> bool:
    """Say whether each layer takes what the one before gives; torch says what is wrong, a kernel would read beyond."""
    for weight, bias, _ in layers:
        if weight.dim() != 2 or weight.shape[1] != width or (bias is not None and bias.shape != weight.shape[:1]):
            return False
        width = weight.shape[0]
    return True


def _by_torch(inputs: Tensor, layers: Sequence[Dense]) -> Tensor:
    for weight, bias, rectified in layers:
        inputs = F.linear(inputs, weight, bias)
        inputs = inputs.relu_() if rectified else inputs  # nobody else holds it, and a product is not needed again
    return inputs


class _DenseStack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: tuple[tuple[bool, bool], ...], learns: bool, inputs: Tensor, *parameters: Tensor
    ) -> Tensor:
        layers = _layers(shape, parameters)
        inputs = inputs if inputs.stride(1) == 1 else inputs.contiguous()
        learns = learns and any(ctx.needs_input_grad)
        # What lies between the layers, each in rows of an odd number of cache lines, with room for a last whole tile.
        strides = [_LINE * (-(-len(layer.weight) // _LINE) | 1) if learns else 0 for layer in layers[:-1]]
        hidden = [inputs.new_empty(len(inputs) + _TILE, stride) for stride in strides]
        outputs = inputs.new_empty(len(inputs), len(layers[-1].weight))
        places = [(rows.data_ptr(), rows.shape[1]) for rows in (*hidden, outputs)]
        table = _table(layers, places, [(None, None)] * len(layers))
        call("dense_forward", table, len(layers), inputs.data_ptr(), inputs.stride(0), len(inputs))
        if learns:
            ctx.save_for_backward(inputs, outputs if layers[-1].rectified else None, *parameters)
            ctx.shape, ctx.hidden, ctx.places = shape, hidden, places
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, _, *parameters = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            needed = [tensor for tensor, is_wanted in zip((inputs, *parameters), wanted, strict=True) if is_wanted]
            outputs = _by_torch(inputs, _layers(ctx.shape, parameters))
            found = iter(torch.autograd.grad(outputs, needed, grad, create_graph=True))
            return None, None, *(next(found) if is_wanted else None for is_wanted in wanted)
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        gradients = [
            torch.empty_like(tensor, memory_format=torch.contiguous_format) if is_wanted else None
            for tensor, is_wanted in zip((inputs, *parameters), wanted, strict=True)
        ]
        of_parameters, pairs = iter(gradients[1:]), []
        for has_bias, _ in ctx.shape:
            pairs.append((next(of_parameters), next(of_parameters) if has_bias else None))
        table = _table(_layers(ctx.shape, parameters), ctx.places, pairs)
        sizes = (inputs.stride(0), grad.data_ptr(), grad.stride(0), len(inputs))
        call("dense_backward", table, len(ctx.shape), inputs.data_ptr(), *sizes, gradients[0])
        return None, None, *gradients


def _layers(shape: tuple[tuple[bool, bool], ...], parameters: Sequence[Tensor]) -> list[Dense]:
    left = iter(parameters)
    return [Dense(next(left), next(left) if has_bias else None, rectified) for has_bias, rectified in shape]


def _table(
    layers: list[Dense], places: list[tuple[int, int]], gradients: list[tuple[Tensor | None, Tensor | None]]
) -> "array[int]":
    """Return what the kernels read of each layer: addresses and sizes."""
    table = array("q")
    for (weight, bias, rectified), place, pair in zip(layers, places, gradients, strict=True):
        units, width = weight.shape
        table.extend((_address(weight), _address(bias), width, units, rectified, *place, *map(_address, pair)))
    return table


def _address(tensor: Tensor | None) -> int:
    assert tensor is None or tensor.is_contiguous()
    return 0 if tensor is None else tensor.data_ptr()
