"""`IdPenalty`: what keeps the vectors of rare ids small, however often a row is seen."""

from collections.abc import Iterable, Mapping
from typing import Final, final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.penalties import add_penalty
from retrank.embeddings.embeddings import Embeddings
from retrank.embeddings.table import Table

__all__ = ["DEFAULT_ID_L2", "IdPenalty"]

DEFAULT_ID_L2: Final = 60.0


@final
class IdPenalty:
    """l2 · Σ‖e‖² over all ids of the training rows, beside the sum of the rows' losses.

    This is the penalty of a logistic regression: an id of ten rows shrinks much, one of ten thousand hardly. Each
    lookup pays its share, l2 · ‖e‖² / rows of that id, so that gradients stay row-sparse. Tables with an `l2` of their
    own are left out.

    Args:
        l2: the factor; 0 switches it off.

    Raises:
        ConfigError: below 0, or not finite.
    """

    def __init__(self, l2: float) -> None:
        if not 0 <= l2 < float("inf"):
            raise ConfigError("id_l2 >= 0", f"id_l2={l2}", "Ranking", "use 0 for no penalty")
        self.l2 = l2
        self._shares: dict[Table, Tensor] = {}

    @property
    def is_counted(self) -> bool:
        """Whether it knows how frequent ids are; without, it adds nothing."""
        return bool(self._shares)

    def count(self, epoch: Iterable[Batch], embeddings: Iterable[Embeddings], device: torch.device) -> None:
        """Count how often each id occurs.

        Args:
            epoch: all batches, once; not read if there is nothing to penalize.
            embeddings: whose vectors are penalized.
            device: where training batches will be.

        Raises:
            DataError: a column is missing.
        """
        self.forget()
        tables = [(feature, table) for found in embeddings for feature, table in _tables(found).items()]
        if not self.l2 or not tables:
            return
        counts = {table: torch.zeros(table.num_ids, dtype=torch.int64) for _, table in tables}
        for batch in epoch:
            for feature, table in tables:
                ids = _ids(batch[feature]).reshape(-1).cpu()
                inside = ids[(ids >= 0) & (ids < table.num_ids)]  # the lookup will say which id is not
                counts[table] += torch.bincount(inside, minlength=table.num_ids)
        self._shares = {table: (self.l2 / count.clamp(min=1)).to(device) for table, count in counts.items()}

    def forget(self) -> None:
        """Drop the counts: training is over."""
        self._shares = {}

    def add(self, batch: Batch, embeddings: Embeddings, vectors: Mapping[str, Tensor]) -> None:
        """Add the penalty of a batch to the loss of its step.

        Args:
            batch: the rows.
            embeddings: as counted.
            vectors: what they made of the batch.
        """
        for feature, table in _tables(embeddings).items():
            if table in self._shares:
                add_penalty(_Part(batch[feature], table, vectors[feature], self._shares[table]))


@final
class _Part:
    """The penalty of one feature, computed when the step asks for it."""

    def __init__(self, column: Tensor | Jagged, table: Table, vectors: Tensor, shares: Tensor) -> None:
        self.column, self.table, self.vectors, self.shares = column, table, vectors, shares

    def __call__(self) -> Tensor:
        ids = _ids(self.column)
        vectors = self.table(ids) if isinstance(self.column, Jagged) else self.vectors  # those of lists are pooled
        total: Tensor = (vectors.square().sum(dim=-1) * self.shares[ids]).sum()
        return total / max(len(self.column), 1)


def _ids(column: Tensor | Jagged) -> Tensor:
    return column.values if isinstance(column, Jagged) else column


def _tables(embeddings: Embeddings) -> dict[str, Table]:
    """Return the tables that have no penalty of their own, by feature."""
    return {feature: table for feature, table in embeddings.tables_by_feature().items() if not table.l2}
