"""`LinearTerms`: a weight for every id and every number."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.errors import ConfigError
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.linear import linear
from retrank.models.checks import require_embeddings

__all__ = ["LinearTerms"]


@final
class LinearTerms(nn.Module):
    """The wide part of Wide & Deep, and the first-order terms of a factorization machine.

    Args:
        tables: of length 1, by feature.
        num_numbers: how many numbers each row has in addition.

    Raises:
        ConfigError: a table of another length.
    """

    def __init__(self, tables: Embeddings, num_numbers: int) -> None:
        super().__init__()
        require_embeddings(tables, "tables of linear terms")
        if any(dim != 1 for dim in tables.dims.values()):
            raise ConfigError("tables of length 1", str(tables.dims), "linear terms", "build them with dim=1")
        self.tables = tables
        self.numbers = linear(num_numbers, 1, bias=False) if num_numbers else None

    def forward(self, terms: Mapping[str, Tensor], numbers: Tensor | None) -> Tensor:
        """Add up the weights of each row.

        Args:
            terms: what the tables made of the batch.
            numbers: `(batch, num_numbers)`, or None.

        Returns:
            `(batch, 1)`.
        """
        weights = list(terms.values())
        if self.numbers is not None and numbers is not None:
            weights.append(self.numbers(numbers))
        return torch.cat(weights, dim=1).sum(dim=1, keepdim=True)
