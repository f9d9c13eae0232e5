"""`dense`: a linear map at the speed of the processor, whichever library of torch reaches it."""

from functools import lru_cache
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dense"]

_NARROW: Final = 16  # outputs below which oneDNN has nothing to gain


def dense(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return inputs · weightᵀ + bias.

    On the CPU torch multiplies float32 matrices by MKL, whose kernels leave a fifth of some processors idle. oneDNN,
    which torch has as well, does not; it computes the output and the gradient of the inputs here.

    Args:
        inputs: `(..., in_features)`.
        weight: `(out_features, in_features)`.
        bias: `(out_features,)` or None.

    Returns:
        `(..., out_features)`.
    """
    if inputs.dim() == 2 and weight.shape[0] >= _NARROW and _takes_one_dnn(inputs) and weight.dtype == torch.float32:
        product: Tensor = _Dense.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return F.linear(inputs, weight, bias)


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _multiply(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        return (
            dense(grad, weight.T) if of_inputs else None,  # in terms of itself, so that it can be derived again
            grad.T @ inputs if of_weight else None,
            grad.sum(dim=0) if of_bias else None,
        )


def _multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return product


def _takes_one_dnn(inputs: Tensor) -> bool:
    is_plain = inputs.device.type == "cpu" and inputs.dtype == torch.float32 and len(inputs) > 0
    return is_plain and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling() and _has_one_dnn()


@lru_cache(maxsize=1)
def _has_one_dnn() -> bool:
    """Look whether this build of torch has the operator, and whether it does what this file needs of it."""
    inputs, weight, bias = torch.arange(15.0).view(5, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        product = _multiply(inputs, weight, bias)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(product, F.linear(inputs, weight, bias))  # whole numbers: nothing is rounded
