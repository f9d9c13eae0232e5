"""Linear maps with Keras' initialisation, of a given or an inferred input size."""

from typing import Any

from torch import Tensor, nn

from retrank.ops.dense import dense

__all__ = ["is_linear", "linear", "materialize", "unsized_parameter"]


def linear(in_features: int | None, out_features: int, *, bias: bool) -> nn.Linear:
    """Return a linear map with Glorot-uniform weights and zero biases.

    Args:
        in_features: size of the input, None to take it from the first one.
        out_features: size of the output.
        bias: whether to add one.

    Returns:
        The map; torch's global generator draws its weights, at once or on the first input.
    """
    if in_features is None:
        return _LazyGlorotLinear(out_features, bias=bias)
    return _GlorotLinear(in_features, out_features, bias=bias)


def is_linear(module: nn.Module) -> bool:
    """Return whether this is a map made by `linear`, of known size and of unchanged class.

    Args:
        module: any.

    Returns:
        Whether its weight and bias determine its output.
    """
    return type(module) is _GlorotLinear


def unsized_parameter() -> nn.Parameter:
    """Return a parameter whose shape `materialize` will give."""
    parameter: Any = nn.UninitializedParameter()  # a Parameter in all but torch's type hints
    return parameter  # type: ignore[no-any-return]


def materialize(module: nn.Module, **shapes: tuple[int, ...]) -> None:
    """Give unsized parameters their shape: matrices start Glorot-uniform, vectors at zero.

    Args:
        module: has the parameters; one that is None stays None.
        shapes: name of the parameter to its shape.
    """
    for name, shape in shapes.items():
        parameter: Any = getattr(module, name)
        if parameter is not None:
            parameter.materialize(shape)
            (nn.init.xavier_uniform_ if len(shape) == 2 else nn.init.zeros_)(parameter)


class _GlorotLinear(nn.Linear):
    def reset_parameters(self) -> None:
        _glorot(self)

    def forward(self, inputs: Tensor) -> Tensor:
        return dense(inputs, self.weight, self.bias)


class _LazyGlorotLinear(nn.LazyLinear):
    cls_to_become = _GlorotLinear

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params() and self.in_features != 0:
            _glorot(self)


def _glorot(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
