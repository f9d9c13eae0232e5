"""`EmbeddingTable`: one learned vector an id."""

from typing import final

import torch
from torch import Tensor, nn

from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.embeddings.lookup import gather, pool
from retrank.embeddings.pooling import Combiner, coefficients, pool_vectors
from retrank.embeddings.protocol import Table

__all__ = ["EmbeddingTable"]


@final
class EmbeddingTable(Table):
    """A vector for every id, with row-sparse gradients whatever the size.

    Row 0 (padding) is zero and stays zero under every optimizer of `retrank.optim`. Row 1 (unknown) starts at zero and
    is learned. All others start uniform in `[-scale, scale)`, drawn from torch's global generator.

    A list of ids is pooled: with weights w and vectors e, `mean` is Σwe / Σw, `sum` is Σwe, `sqrtn` is Σwe / √Σw².
    Without weights w is 1. `max` takes the largest number in each dimension, and no weights. Padding takes no part,
    not even in the count; a list whose denominator is 0, such as an empty one, gives zeros.

    Args:
        rows: the schema of an id column, or the number of rows with padding and unknown counted.
        dim: length of a vector.
        combiner: how lists are pooled.
        scale: half the width of the initial uniform distribution.
        l2: factor of `regularization`.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.EmbeddingTable(rr.core.ColumnSchema("genres", "ids", is_jagged=True, num_ids=20), dim=4)
        >>> table(torch.tensor([3, 5])).shape, table(rr.Jagged.from_lists([[2, 7], [], [4]])).shape
        (torch.Size([2, 4]), torch.Size([3, 4]))
        >>> table(torch.tensor([20]))
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: table 'genres', row 0: expected ids in [0, 20), got 20; ...

    Source: Keras-RS `EmbedReduce`, where padding is an ordinary id and gradients are dense; `max` as in Merlin.
    """

    weight: nn.Parameter
    """`(num_ids, dim)`."""

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        combiner: Combiner = "mean",
        scale: float = 0.05,
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, name=name)
        if not (scale >= 0 and l2 >= 0):
            raise self._config_error("scale >= 0 and l2 >= 0", f"scale={scale}, l2={l2}")
        self.scale, self.l2 = scale, l2
        self.weight = nn.Parameter(self._new_rows(self._num_ids))
        self.weight.data[:NUM_SPECIAL_IDS] = 0
        self._looked_up: list[tuple[Tensor, int]] = []
        self._regularized = self._learning = False
        self._remember_size()

    def regularization(self) -> Tensor:
        """Return l2 · Σ‖e‖² / batch over the vectors looked up, each as often as it was; its gradient is row-sparse.

        In training all lookups since the previous step count, since several features may share a table; in evaluation
        only the last one does. Calling it twice gives the same value.
        """
        self._regularized = True
        penalty = self.weight.new_zeros(())
        for ids, batch in self._looked_up:
            penalty = penalty + gather(self.weight, ids).square().sum() * (self.l2 / max(batch, 1))
        return penalty

    def grow(self, num_ids: int) -> None:
        """Add rows at the end for new ids, keeping all others.

        Optimizers built before hold state of the old size: build new ones.

        Args:
            num_ids: the new number of rows.

        Raises:
            ConfigError: fewer rows than there are.
        """
        if num_ids < self.num_ids:
            raise self._config_error(f"at least {self.num_ids} rows", str(num_ids))
        self.weight.data = torch.cat([self.weight.data, self._new_rows(num_ids - self.num_ids)])
        self.weight.grad, self._num_ids = None, num_ids
        self._remember_size()

    def _look_up(self, ids: Tensor) -> Tensor:
        vectors = gather(self.weight, ids)
        self._remember(ids, len(ids))
        return vectors

    def _pool(self, lists: Jagged) -> Tensor:
        if self.combiner == "max":
            vectors = pool_vectors(gather(self.weight, lists.values), lists, "max")
        else:
            factors = coefficients(lists, self.combiner, self.weight.dtype)
            vectors = pool(self.weight, lists.values, lists.offsets, lists.row_index(), factors)
        self._remember(lists.values, len(lists))
        return vectors

    def _remember(self, ids: Tensor, batch: int) -> None:
        if self.l2 == 0:
            return
        learning = self.training and torch.is_grad_enabled()
        if self._regularized or not (learning and self._learning):
            self._looked_up = []
        self._regularized, self._learning = False, learning
        self._looked_up.append((ids, batch))

    def _remember_size(self) -> None:
        # The configuration rebuilds a table of this size, not of the size that the schema once had.
        self.__dict__["_arguments"].update(rows=self.num_ids, name=self.name)

    def _new_rows(self, count: int) -> Tensor:
        like = getattr(self, "weight", None)
        kind = {} if like is None else {"dtype": like.dtype, "device": like.device}
        return torch.empty(count, self.dim, **kind).uniform_(-self.scale, self.scale)
