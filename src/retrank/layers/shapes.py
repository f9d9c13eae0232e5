"""The checks that the interaction layers share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.ops.concatenate_lookups import concatenate_lookups

__all__ = ["concatenate", "require_alike", "stack_fields"]


def require_alike(inputs: Sequence[Tensor], layer: str, *, same_width: bool) -> None:
    """Raise unless the inputs can be concatenated or stacked.

    Args:
        inputs: at least one tensor `(..., width)`.
        layer: its name, for the message.
        same_width: whether the last dimension must agree, too.

    Raises:
        ShapeError: no inputs, or one that differs from the first; the message gives its place.
    """
    if not inputs:
        raise ShapeError("at least one input", "none", layer)
    for place, tensor in enumerate(inputs):
        if tensor.dim() < 2 or _compared_shape(tensor, same_width) != _compared_shape(inputs[0], same_width):
            sizes = [*map(str, _compared_shape(inputs[0], same_width)), *([] if same_width else ["any width"])]
            raise ShapeError(
                f"shape ({', '.join(sizes)})",
                str(tuple(tensor.shape)),
                f"{layer}, input {place}",
                "all inputs need the same rows; a column of numbers gets a width by unsqueeze(1)",
            )


def concatenate(inputs: Sequence[Tensor]) -> Tensor:
    """Join along the last dimension.

    Args:
        inputs: at least one tensor `(..., width)`, of equal shape except for the width.

    Returns:
        `(..., sum of the widths)`.
    """
    return concatenate_lookups(inputs) if inputs[0].dim() == 2 else torch.cat(list(inputs), dim=-1)


def stack_fields(inputs: Sequence[Tensor] | Tensor, layer: str) -> Tensor:
    """Put the vectors of all features into one tensor.

    Args:
        inputs: F tensors `(batch, dim)`, or one `(batch, F, dim)`, which is returned as it is.
        layer: its name, for the message.

    Returns:
        `(batch, F, dim)`.

    Raises:
        ShapeError: no inputs, or inputs of different shape.
    """
    if not isinstance(inputs, Tensor):
        require_alike(inputs, layer, same_width=True)
        inputs = torch.stack(list(inputs), dim=1)
    if inputs.dim() != 3:
        raise ShapeError(
            "one tensor (batch, features, dim), or a list of (batch, dim)", str(tuple(inputs.shape)), layer
        )
    return inputs


def _compared_shape(tensor: Tensor, same_width: bool) -> tuple[int, ...]:
    return tuple(tensor.shape if same_width else tensor.shape[:-1])
