"""`PreparedTower`: a tower of a model that is served."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.embeddings.prepared import PreparedEmbeddings
from retrank.embeddings.table import Table
from retrank.layers.mlp import MLP
from retrank.models.number_columns import number_columns

__all__ = ["PreparedTower"]


@final
class PreparedTower:
    """Embeds rows as `Tower.forward` does, with the kernels to the bit, in less time: one lookup, checked once.

    Args:
        tables: of the id features, in order.
        numbers: the features of numbers, which follow.
        mlp: the dense layers, None for none.
        residual: the feature and the table of the vector that is added in the end, None for none.
        shows_residual: whether the dense layers see that vector, too, as their last input.
    """

    def __init__(
        self,
        tables: Sequence[tuple[str, Table]],
        numbers: Sequence[str],
        mlp: MLP | None,
        residual: tuple[str, Table] | None,
        *,
        shows_residual: bool,
    ) -> None:
        every = [*tables, *([] if residual is None else [residual])]
        self._lookups = PreparedEmbeddings(every) if every else None
        self._width = sum(table.dim for _, table in tables)
        self._numbers, self._shows_residual, self._has_residual = tuple(numbers), shows_residual, residual is not None
        self._mlp = None if mlp is None else mlp.prepared()

    def __call__(self, batch: Batch) -> Tensor:
        """Embed rows.

        Args:
            batch: has the tower's features.

        Returns:
            `(batch, out_features)`.
        """
        others, vectors = number_columns(batch, self._numbers), None
        if self._lookups is not None:
            vectors = self._lookups(batch)
            others = [
                vectors[:, : self._width],
                *others,
                *([vectors[:, self._width :]] if self._shows_residual else []),
            ]
        if vectors is not None and self._shows_residual and not self._numbers:
            inputs = vectors  # which has all side by side already
        else:
            inputs = others[0] if len(others) == 1 else torch.cat(others, dim=1)
        output = inputs if self._mlp is None else self._mlp(inputs)
        return vectors[:, self._width :] + output if vectors is not None and self._has_residual else output
