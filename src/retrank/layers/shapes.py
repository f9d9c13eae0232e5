"""The check that the interaction layers share."""

from collections.abc import Sequence

from torch import Tensor

from retrank.core.errors import ShapeError

__all__ = ["require_alike"]


def require_alike(inputs: Sequence[Tensor], layer: str, *, same_width: bool) -> None:
    """Raise unless the inputs can stand beside each other.

    Args:
        inputs: at least one tensor `(..., width)`.
        layer: its name, for the message.
        same_width: whether the last dimension must agree too, besides all others.

    Raises:
        ShapeError: no inputs, or one that differs from the first; the message gives its place.
    """
    if not inputs:
        raise ShapeError("at least one input", "none", layer, "pass the features to combine")
    for place, tensor in enumerate(inputs):
        if tensor.dim() < 2 or _compared(tensor, same_width) != _compared(inputs[0], same_width):
            sizes = [*map(str, _compared(inputs[0], same_width)), *([] if same_width else ["any width"])]
            raise ShapeError(
                f"shape ({', '.join(sizes)})",
                str(tuple(tensor.shape)),
                f"{layer}, input {place}",
                "give every input the same rows, and number columns a width by unsqueeze(1)",
            )


def _compared(tensor: Tensor, same_width: bool) -> tuple[int, ...]:
    return tuple(tensor.shape if same_width else tensor.shape[:-1])
