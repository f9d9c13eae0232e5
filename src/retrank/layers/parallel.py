"""`Parallel`: several layers on the same features."""

from collections.abc import Sequence
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.layers.shapes import concatenate, require_alike

__all__ = ["Parallel"]

Combine = Literal["concatenate", "sum"]


@final
class Parallel(Configurable, nn.Module):
    """Branches on the same inputs, whose outputs are concatenated or added.

    Args:
        branches: modules from the inputs to `(batch, width)`.
        combine: `"concatenate"`, or `"sum"` to add outputs of equal width.

    Raises:
        ConfigError: no branches, or another `combine`.

    Example:
        >>> import torch, retrank as rr
        >>> deep = torch.nn.Sequential(rr.layers.Concatenate(), rr.layers.MLP(None, [8, 3]))
        >>> both = rr.layers.Parallel([rr.layers.DotInteraction(), deep])
        >>> both([torch.rand(2, 4), torch.rand(2, 4)]).shape
        torch.Size([2, 4])

    Source: Merlin's `ParallelBlock`; the parallel structure of Wang et al., DCN V2, 2021.
    """

    def __init__(self, branches: Sequence[nn.Module], *, combine: Combine = "concatenate") -> None:
        super().__init__()
        if not branches or combine not in get_args(Combine):
            raise ConfigError(
                f"one branch or more, and combine one of {get_args(Combine)}",
                f"{len(branches)} branches, combine={combine!r}",
                "Parallel",
            )
        self.branches, self.combine = nn.ModuleList(branches), combine

    def forward(self, inputs: Sequence[Tensor] | Tensor) -> Tensor:
        """Pass the inputs through every branch.

        Args:
            inputs: what each branch takes.

        Returns:
            `(batch, sum of the widths)`, or `(batch, width)` with `combine="sum"`.

        Raises:
            ShapeError: outputs that cannot be concatenated, or cannot be added.
        """
        outputs = [branch(inputs) for branch in self.branches]
        require_alike(outputs, "Parallel", same_width=self.combine == "sum")
        return concatenate(outputs) if self.combine == "concatenate" else torch.stack(outputs).sum(dim=0)
