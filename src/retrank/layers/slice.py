"""`Slice`: a part of every feature's vector."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.shapes import require_alike

__all__ = ["Slice"]


@final
class Slice(Configurable, nn.Module):
    """The same part of every feature's vector, for branches of `Parallel` that share no weights.

    Args:
        start: the first number that is kept.
        stop: the first that is not kept; None for the rest.

    Raises:
        ConfigError: nothing would be kept.

    Example:
        >>> import torch, retrank as rr
        >>> rr.layers.Slice(1)([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])])
        [tensor([[2.]]), tensor([[4.]])]
    """

    def __init__(self, start: int = 0, stop: int | None = None) -> None:
        super().__init__()
        if not (start >= 0 and (stop is None or stop > start)):
            raise ConfigError("0 <= start < stop", f"start={start}, stop={stop}", "Slice")
        self.start, self.stop = start, stop

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Cut the features.

        Args:
            inputs: tensors `(batch, width)`.

        Returns:
            As many tensors `(batch, stop - start)`.

        Raises:
            ShapeError: no inputs, or one that the slice goes beyond.
        """
        require_alike(inputs, "Slice", same_width=False)
        needed = self.start + 1 if self.stop is None else self.stop
        narrow = [tuple(tensor.shape) for tensor in inputs if tensor.shape[-1] < needed]
        if narrow:
            raise ShapeError(f"features of width {needed} or more", str(narrow[0]), "Slice", "widen the tables")
        return [tensor[..., self.start : self.stop] for tensor in inputs]
