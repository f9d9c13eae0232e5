"""`LinearTerms`: a weight for every id and every number."""

from typing import final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.protocol import Table
from retrank.embeddings.table import EmbeddingTable
from retrank.layers.linear import linear

__all__ = ["LinearTerms", "linear_tables"]


@final
class LinearTerms(nn.Module):
    """The wide part of Wide & Deep, and the first-order terms of a factorization machine.

    Args:
        tables: of length 1, by feature.
        num_numbers: how many numbers each row has besides.

    Raises:
        ConfigError: a table of another length.
    """

    def __init__(self, tables: EmbeddingCollection, num_numbers: int) -> None:
        super().__init__()
        if any(dim != 1 for dim in tables.dims.values()):
            raise ConfigError("tables of length 1", str(tables.dims), "linear terms", "build them with dim=1")
        self.tables = tables
        self.numbers = linear(num_numbers, 1, bias=False) if num_numbers else None

    def forward(self, batch: Batch, numbers: Tensor | None) -> Tensor:
        """Add up the weights of each row.

        Args:
            batch: has the ids.
            numbers: `(batch, num_numbers)`, or None.

        Returns:
            `(batch, 1)`.
        """
        terms = list(self.tables(batch).values())
        if self.numbers is not None and numbers is not None:
            terms.append(self.numbers(numbers))
        return torch.cat(terms, dim=1).sum(dim=1, keepdim=True)


def linear_tables(embeddings: EmbeddingCollection) -> EmbeddingCollection:
    """Make a weight, at first 0, for every id that has a vector.

    Args:
        embeddings: the tables of the vectors.

    Returns:
        Tables of length 1 for the same features, shared where those are, that pool lists in the same way.
    """
    tables: dict[Table, EmbeddingTable] = {}
    for table in {embeddings[name]: None for name in embeddings.features}:
        tables[table] = EmbeddingTable(
            table.num_ids, 1, combiner=table.combiner, scale=0.0, name=f"{table.name}_linear"
        )
    return EmbeddingCollection({name: tables[embeddings[name]] for name in embeddings.features})
