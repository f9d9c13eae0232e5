"""`dense` and `dense_stack`: linear maps, and stacks of them with ReLU between, at the speed of the processor."""

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.native import BoundKernel, bind, call, is_native
from retrank.ops.checks import described, require_floats
from retrank.ops.derivation import derive_by_torch

__all__ = ["Dense", "PreparedStack", "dense", "dense_stack", "has_independent_rows"]

_FEW_ROWS: Final = 32  # fewer do not repay laying out the weights
_LINE: Final = 16  # floats in a cache line
_TILE: Final = 16  # no processor has more rows in a tile

_Shape = tuple[tuple[bool, bool], ...]  # of each layer, whether it has a bias, and whether ReLU follows


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
        inputs: `(..., in_features)` floats.
        weight: `(out_features, in_features)` of the same dtype.
        bias: `(out_features,)` likewise, or None.

    Returns:
        `(..., out_features)`.

    Raises:
        ShapeError: tensors that do not fit each other.
    """
    return dense_stack(inputs, [Dense(weight, bias, rectified=False)])


def dense_stack(inputs: Tensor, layers: Sequence[Dense]) -> Tensor:
    """Pass values through dense layers.

    On the CPU a kernel takes a block of rows through all layers while it is in the cache, and applies biases, ReLU and
    its gradient where a product is summed; torch multiplies first and reads everything again for each.

    Args:
        inputs: `(..., in_features)` floats.
        layers: at least one, each of the width that the one before gives, and of the dtype of the inputs.

    Returns:
        `(..., out_features of the last)`, differentiable as often as you like.

    Raises:
        ShapeError: no layers, or tensors that do not fit each other.
    """
    parameters = _checked(inputs, layers)
    num_rows = inputs.numel() // max(inputs.shape[-1], 1)
    is_plain = inputs.shape[-1] > 0 and not torch.is_autocast_enabled("cpu")
    # Without a gradient the kernel takes few rows, too: a row then is rounded alike alone and among thousands. The rows
    # are asked last, since a trace, in which no kernel is, must hold for any number of them.
    if not (is_plain and is_native(inputs, *parameters) and (num_rows >= _FEW_ROWS or not torch.is_grad_enabled())):
        return _by_torch(_shape(layers), inputs, *parameters)
    flat = inputs if inputs.dim() == 2 else inputs.reshape(num_rows, inputs.shape[-1])
    if torch.is_grad_enabled():
        outputs: Tensor = _DenseStack.apply(_shape(layers), True, flat, *parameters)  # type: ignore[no-untyped-call]
    else:  # a request, for which autograd's bookkeeping is a good part of the cost
        outputs, _ = _by_kernel(_shape(layers), flat, parameters, learns=False)
    return outputs if inputs.dim() == 2 else outputs.view(*inputs.shape[:-1], outputs.shape[1])


@final
class PreparedStack:
    """`dense_stack` for a model that is served: its layers are checked once and not at each call.

    Args:
        layers: as of `dense_stack`. They do not learn; changes of their numbers in place are seen.

    Raises:
        ShapeError: no layers, or tensors that do not fit each other.
    """

    def __init__(self, layers: Sequence[Dense]) -> None:
        parameters = _checked(layers[0].weight[:0] if layers else torch.empty(0), layers)
        # Aliases keep the memory: nothing else can come to lie at an address that is remembered.
        self._layers = _layers(_shape(layers), [parameter.detach().contiguous() for parameter in parameters])
        self._run = _bound(self._layers) if is_native(*parameters) else None
        self._in_features, self._out_features = layers[0].weight.shape[1], len(layers[-1].weight)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Pass values through the layers; see `dense_stack`, which has the same bits.

        Args:
            inputs: `(..., in_features)` floats.

        Returns:
            `(..., out_features of the last)`.

        Raises:
            ShapeError: inputs that do not fit.
        """
        if (
            self._run is None
            or inputs.dim() != 2
            or inputs.shape[1] != self._in_features
            or inputs.stride(1) != 1
            or self._in_features == 0
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or not is_native(inputs)
        ):
            return dense_stack(inputs, self._layers)
        outputs = inputs.new_empty(len(inputs), self._out_features)
        self._run(len(inputs) + _TILE, len(inputs), inputs.stride(0), inputs, outputs)
        return outputs


def _bound(layers: list[Dense]) -> BoundKernel:
    described = _described(layers, 0, [None] * (len(layers) - 1))
    names = ("num_layers", "in", "out", "relu", "strides", "weights", "biases", "padded_rows", "hidden")
    fixed = dict(zip(names, described, strict=True))
    del fixed["padded_rows"]  # which varies with the inputs
    return bind("dense_forward", **fixed)


def has_independent_rows() -> bool:
    """Return whether, without a gradient, a row of an output has the same bits whatever other rows there are."""
    return is_native() and not torch.is_autocast_enabled("cpu")


def _checked(inputs: Tensor, layers: Sequence[Dense]) -> list[Tensor]:
    """Return the parameters of the layers in order, if all fit."""
    parameters, names = [inputs], ["inputs"]
    for place, (weight, bias, _) in enumerate(layers):
        parameters += [weight] if bias is None else [weight, bias]
        names += [f"weight {place}"] if bias is None else [f"weight {place}", f"bias {place}"]
    require_floats("dense", parameters, names)
    if not layers or inputs.dim() == 0:
        raise _error("inputs of shape (..., width) and one layer or more", f"{described(inputs)}, {len(layers)} layers")
    width = inputs.shape[-1]
    for place, (weight, bias, _) in enumerate(layers):
        if weight.dim() != 2 or weight.shape[1] != width:
            raise _error(f"a weight of shape (any, {width}) in layer {place}", described(weight))
        if bias is not None and bias.shape != weight.shape[:1]:
            raise _error(f"a bias of shape ({len(weight)},) in layer {place}", described(bias))
        width = weight.shape[0]
    return parameters[1:]


def _error(expected: str, got: str) -> ShapeError:
    return ShapeError(expected, got, "dense", "give each layer the width of what it gets")


def _shape(layers: Sequence[Dense]) -> _Shape:
    return tuple((layer.bias is not None, layer.rectified) for layer in layers)


def _layers(shape: _Shape, parameters: Sequence[Tensor]) -> list[Dense]:
    left = iter(parameters)
    return [Dense(next(left), next(left) if has_bias else None, rectified) for has_bias, rectified in shape]


def _by_torch(shape: _Shape, inputs: Tensor, *parameters: Tensor) -> Tensor:
    for weight, bias, rectified in _layers(shape, parameters):
        inputs = F.linear(inputs, weight, bias)
        inputs = inputs.relu_() if rectified else inputs  # nobody else holds it, and a product is not needed again
    return inputs


def _by_kernel(
    shape: _Shape, inputs: Tensor, parameters: Sequence[Tensor], *, learns: bool
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the outputs, and what lies between the layers if it is needed again."""
    layers = _layers(shape, [parameter.contiguous() for parameter in parameters])
    rows = _with_contiguous_rows(inputs)
    # What lies between the layers, each in rows of an odd number of cache lines, with room for a last whole tile.
    hidden = [inputs.new_empty(len(inputs) + _TILE, _stride(layer.weight)) if learns else None for layer in layers[:-1]]
    outputs = inputs.new_empty(len(inputs), len(layers[-1].weight))
    call("dense_forward", *_described(layers, len(rows), hidden), len(rows), rows.stride(0), rows, outputs)
    return outputs, hidden


class _DenseStack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: _Shape, learns: bool, inputs: Tensor, *parameters: Tensor) -> Tensor:
        learns = learns and any(ctx.needs_input_grad)
        outputs, hidden = _by_kernel(shape, inputs, parameters, learns=learns)
        if learns:
            ctx.save_for_backward(inputs, outputs if shape[-1][1] else None, *hidden, *parameters)
            ctx.shape = shape
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, outputs, *others = ctx.saved_tensors
        num_hidden = len(ctx.shape) - 1
        parameters, wanted = others[num_hidden:], ctx.needs_input_grad[2:]
        hidden = [rows.contiguous() for rows in others[:num_hidden]]  # as they were, unless a hook has kept them
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            return None, None, *derive_by_torch(partial(_by_torch, ctx.shape), (inputs, *parameters), grad, wanted)
        gradients = [
            torch.empty_like(tensor, memory_format=torch.contiguous_format) if is_wanted else None
            for tensor, is_wanted in zip((inputs, *parameters), wanted, strict=True)
        ]
        of_parameters, of_weights, of_biases = iter(gradients[1:]), [], []
        for has_bias, _ in ctx.shape:
            of_weights.append(next(of_parameters))
            of_biases.append(next(of_parameters) if has_bias else None)
        layers = _layers(ctx.shape, [parameter.contiguous() for parameter in parameters])
        rows, grad = _with_contiguous_rows(inputs), _with_contiguous_rows(grad)
        made = None if outputs is None else outputs.contiguous()
        sizes = (*_described(layers, len(rows), hidden), len(rows), rows.stride(0), rows)
        call("dense_backward", *sizes, made, grad.stride(0), grad, of_weights, of_biases, gradients[0])
        return None, None, *gradients


def _stride(weight: Tensor) -> int:
    return _LINE * (-(-len(weight) // _LINE) | 1)


def _described(layers: list[Dense], num_rows: int, hidden: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Return what the kernels are told of the layers."""
    return (
        len(layers),
        array("q", [layer.weight.shape[1] for layer in layers]),
        array("q", [layer.weight.shape[0] for layer in layers]),
        array("q", [layer.rectified for layer in layers]),
        array("q", [_stride(layer.weight) for layer in layers]),
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        num_rows + _TILE,
        [*hidden, None],
    )


def _with_contiguous_rows(rows: Tensor) -> Tensor:
    return rows if rows.stride(1) == 1 else rows.contiguous()
