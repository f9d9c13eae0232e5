"""`QuotientRemainderTable`: a different vector for every id, out of two small tables."""

from typing import Literal, final, get_args

import torch
from torch import Tensor

from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID, ColumnSchema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.pooling import Combiner
from retrank.embeddings.table import Table

__all__ = ["QuotientRemainderTable"]

Operation = Literal["multiply", "add", "concatenate"]


@final
class QuotientRemainderTable(Table):
    """Combines a vector for the quotient of the id by a divisor with one for the remainder; no two ids share both.

    With a divisor of √n, 2√n rows serve n ids. Padding is zeros; unknown has a vector of its own, which starts at
    zero. The gradient is row-sparse.

    Args:
        rows: the schema of an id column, or the number of ids with padding and unknown counted.
        dim: length of a vector; even for `"concatenate"`, where each part has half of it.
        divisor: how many different remainders.
        operation: how the two vectors are combined: element by element or concatenated.
        combiner: how lists are pooled, see `EmbeddingTable`.
        scale: the vectors start with the variance of those of an `EmbeddingTable` of this scale.
        l2: factor of `penalty`, whose vectors are those of ids, not the rows they are made of.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.embeddings.QuotientRemainderTable(1_000_000, dim=4, divisor=1_000)
        >>> table(torch.tensor([7, 123_456])).shape, sum(weight.numel() for weight in table.parameters())
        (torch.Size([2, 4]), 8016)

    Source: Shi et al., Compositional Embeddings Using Complementary Partitions, KDD 2020.
    """

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        divisor: int,
        operation: Operation = "multiply",
        combiner: Combiner = "mean",
        scale: float = 0.05,
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, l2=l2, name=name)
        if divisor < 1:
            raise self._config_error("divisor >= 1", f"divisor={divisor}")
        if operation not in get_args(Operation):
            raise self._config_error(f"operation in {list(get_args(Operation))}", repr(operation))
        if operation == "concatenate" and dim % 2:
            raise self._config_error("an even dim, to concatenate two halves", f"dim={dim}")
        self.divisor, self.operation = divisor, operation
        # The variance of a uniform number is scale² / 3; that of a product is the product, that of a sum the sum.
        part_scale = {"multiply": (3**0.5 * scale) ** 0.5, "add": scale / 2**0.5, "concatenate": scale}[operation]
        part_dim = dim // 2 if operation == "concatenate" else dim
        self.quotients = EmbeddingTable(self._num_rows(self.num_ids), part_dim, scale=part_scale, name=self.name)
        self.remainders = EmbeddingTable(divisor + NUM_SPECIAL_IDS, part_dim, scale=part_scale, name=self.name)
        if operation == "multiply":
            self.quotients.weight.data[UNKNOWN_ID] = 1  # the product of two zeros would never move

    def _num_rows(self, num_ids: int) -> int:
        return -(-(num_ids - NUM_SPECIAL_IDS) // self.divisor) + NUM_SPECIAL_IDS

    def _grow(self, num_ids: int) -> None:
        self.quotients.grow(self._num_rows(num_ids))

    def _look_up(self, ids: Tensor) -> Tensor:
        place, special = ids - NUM_SPECIAL_IDS, ids < NUM_SPECIAL_IDS
        quotient = torch.where(special, ids, place // self.divisor + NUM_SPECIAL_IDS)
        remainder = torch.where(special, ids, place % self.divisor + NUM_SPECIAL_IDS)
        one: Tensor = self.quotients(self._in_range(ids, quotient))
        other: Tensor = self.remainders(remainder)
        if self.operation == "multiply":
            return one * other
        return one + other if self.operation == "add" else torch.cat([one, other], dim=-1)
