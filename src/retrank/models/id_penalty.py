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

__all__ = ["DEFAULT_LINEAR_L2", "IdPenalty"]

DEFAULT_LINEAR_L2: Final = 2.0
_VECTOR_L2: Final = 100.0
_ROWS_PER_L2: Final = 100  # of fewer rows than 10,000 the default asks less, or a handful would teach nothing


@final
class IdPenalty:
    """l2 · Σ‖e‖² over all ids of the training rows, beside the sum of the rows' losses.

    This is the penalty of a logistic regression: an id of ten rows shrinks much, one of ten thousand hardly. Each
    lookup pays its share, l2 · ‖e‖² / rows of that id, so that gradients stay row-sparse. Tables with an `l2` of their
    own are left out.

    Args:
        id_l2: the factor for vectors; None for 100, or a hundredth of the number of rows if that is less.
        linear_l2: the factor for weights of ids, the vectors of length 1 of linear terms.

    Raises:
        ConfigError: below 0, or not finite.
    """

    def __init__(self, id_l2: float | None, linear_l2: float) -> None:
        for name, l2 in (("id_l2", id_l2), ("linear_l2", linear_l2)):
            if l2 is not None and not 0 <= l2 < float("inf"):
                raise ConfigError(f"{name} >= 0", f"{name}={l2}", "Ranking", "use 0 for no penalty")
        self.id_l2, self.linear_l2 = id_l2, linear_l2
        self._shares: dict[Table, Tensor] = {}

    @property
    def is_counted(self) -> bool:
        """Whether it knows how frequent ids are; without, it adds nothing."""
        return bool(self._shares)

    def count(
        self, epoch: Iterable[Batch], vectors: Embeddings, weights: Embeddings | None, device: torch.device
    ) -> None:
        """Count how often each id occurs.

        Args:
            epoch: all batches, once; not read if there is nothing to penalize.
            vectors: penalized by `id_l2`.
            weights: of linear terms, penalized by `linear_l2`.
            device: where training batches will be.

        Raises:
            DataError: a column is missing.
        """
        self.forget()
        linear = [] if weights is None or not self.linear_l2 else list(_tables(weights).items())
        tables = [*linear, *([] if self.id_l2 == 0 else _tables(vectors).items())]
        if not tables:
            return
        counts = {table: torch.zeros(table.num_ids, dtype=torch.int64) for _, table in tables}
        num_rows = 0
        for batch in epoch:
            num_rows += len(batch)
            for feature, table in tables:
                ids = _ids(batch[feature]).reshape(-1).cpu()
                inside = ids[(ids >= 0) & (ids < table.num_ids)]  # the lookup will say which id is not
                counts[table] += torch.bincount(inside, minlength=table.num_ids)
        id_l2 = min(_VECTOR_L2, num_rows / _ROWS_PER_L2) if self.id_l2 is None else self.id_l2
        factors = dict.fromkeys(counts, id_l2) | {table: self.linear_l2 for _, table in linear}
        self._shares = {table: (factors[table] / count.clamp(min=1)).to(device) for table, count in counts.items()}

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
