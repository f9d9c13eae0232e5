"""`EmbeddingTable`: one learned vector an id."""

from typing import Literal, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, PADDING_ID, ColumnSchema
from retrank.embeddings.lookup import gather, pool

__all__ = ["EmbeddingTable"]

Combiner = Literal["mean", "sum", "sqrtn"]


@final
class EmbeddingTable(Configurable, nn.Module):
    """A vector for every id, with row-sparse gradients whatever the size.

    Row 0 (padding) is zero and stays zero under every optimizer of `retrank.optim`. Row 1 (unknown) starts at zero and
    is learned. All others start uniform in `[-scale, scale)`, drawn from torch's global generator.

    A list of ids is pooled: with weights w and vectors e, `mean` is Σwe / Σw, `sum` is Σwe, `sqrtn` is Σwe / √Σw².
    Without weights w is 1. Padding takes no part, not even in the count; a list whose denominator is 0, such as an
    empty one, gives zeros.

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

    Source: Keras-RS `EmbedReduce`, where padding is an ordinary id and gradients are dense.
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
        super().__init__()
        if isinstance(rows, ColumnSchema):
            name, rows = name or rows.name, _num_ids(rows)
        self.name, self.dim, self.combiner, self.scale, self.l2 = name or "embedding", dim, combiner, scale, l2
        if rows < NUM_SPECIAL_IDS or dim < 1:
            raise self._config_error(f"rows >= {NUM_SPECIAL_IDS} and dim >= 1", f"rows={rows}, dim={dim}")
        if combiner not in ("mean", "sum", "sqrtn"):
            raise self._config_error("combiner 'mean', 'sum' or 'sqrtn'", repr(combiner))
        if not (scale >= 0 and l2 >= 0):
            raise self._config_error("scale >= 0 and l2 >= 0", f"scale={scale}, l2={l2}")
        self.weight = nn.Parameter(self._new_rows(rows))
        self.weight.data[:NUM_SPECIAL_IDS] = 0
        self._looked_up: list[tuple[Tensor, int]] = []
        self._regularized = self._learning = False
        self._remember_size()

    @property
    def num_ids(self) -> int:
        """The number of rows, padding and unknown included."""
        return len(self.weight)

    def forward(self, ids: Tensor | Jagged) -> Tensor:
        """Look up ids, or pool lists of them.

        Args:
            ids: `(batch,)` or `(batch, length)` int64, or a `Jagged` of int64 ids, pooled with its weights if any.

        Returns:
            `(batch, dim)`; `(batch, length, dim)` for a rectangle of ids.

        Raises:
            ShapeError: ids that are not int64 or of another shape.
            DataError: an id outside of the table. On a GPU, where looking would mean waiting, torch's own
                device-side assertion stops the program instead.
        """
        values = ids.values if isinstance(ids, Jagged) else ids
        if values.dtype != torch.int64 or values.dim() > (1 if isinstance(ids, Jagged) else 2) or values.dim() == 0:
            raise ShapeError(
                "int64 ids of shape (batch,) or (batch, length), or a Jagged of them",
                f"{values.dtype} of shape {tuple(values.shape)}",
                f"table '{self.name}'",
                "pass an id column of the batch",
            )
        try:
            vectors = self._pool(ids) if isinstance(ids, Jagged) else gather(self.weight, ids)
        except (IndexError, RuntimeError):
            self._refuse_ids_out_of_range(ids)
            raise
        if self.l2 > 0:
            self._remember(values, len(ids))
        return vectors

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
        self.weight.grad = None
        self._remember_size()

    def extra_repr(self) -> str:
        """Describe the table within torch's module listing."""
        return f"'{self.name}', {self.num_ids}, {self.dim}, combiner='{self.combiner}'"

    def _pool(self, lists: Jagged) -> Tensor:
        rows = lists.row_index()
        weights = (lists.values != PADDING_ID).to(self.weight.dtype)
        if lists.weights is not None:
            weights = weights * lists.weights.to(self.weight.dtype)
        if self.combiner != "sum":
            squared = self.combiner == "sqrtn"
            norm = torch.segment_reduce(
                weights.square() if squared else weights, "sum", offsets=lists.offsets, initial=0
            )
            norm = norm.sqrt() if squared else norm
            # Division by infinity gives the zero that is wanted, and a gradient without NaN.
            weights = weights / norm.masked_fill(norm == 0, torch.inf).index_select(0, rows)
        return pool(self.weight, lists.values, lists.offsets, rows, weights)

    def _remember(self, ids: Tensor, batch: int) -> None:
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

    def _refuse_ids_out_of_range(self, ids: Tensor | Jagged) -> None:
        values = ids.values if isinstance(ids, Jagged) else ids
        if values.device.type != "cpu":
            return
        outside = ((values < 0) | (values >= self.num_ids)).nonzero()
        if len(outside):
            place = outside[0]
            row = ids.row_index()[place[0]] if isinstance(ids, Jagged) else place[0]
            raise DataError(
                f"ids in [0, {self.num_ids})",
                str(int(values[tuple(place)])),
                f"table '{self.name}', row {int(row)}",
                "size the table by the schema of the column, or grow it",
            )

    def _config_error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(expected, got, f"EmbeddingTable '{self.name}'", "correct the argument")


def _num_ids(schema: ColumnSchema) -> int:
    if schema.num_ids is None:
        raise ConfigError(
            "a column of ids",
            "a column of numbers",
            f"EmbeddingTable of column '{schema.name}'",
            "feed numbers directly",
        )
    return schema.num_ids
