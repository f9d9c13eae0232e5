"""`EmbeddingTable`: one learned vector per id."""

from typing import Final, Literal, final, get_args

import torch
from torch import Tensor, nn

from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.embeddings.int8 import Int8Table
from retrank.embeddings.pooling import Combiner
from retrank.embeddings.table import Table
from retrank.ops.concatenate_lookups import concatenate_lookups
from retrank.ops.lookup import gather
from retrank.ops.prepared_lookups import Rows

__all__ = ["EmbeddingTable"]

TableDtype = Literal["float32", "bfloat16", "float16"]
_TORCH_KNOWS_GRAD_DTYPE: Final = hasattr(torch.Tensor, "grad_dtype")
_DRAWN_ROWS: Final = 65_536  # that are drawn at once in float32, before they are rounded


@final
class EmbeddingTable(Table):
    """A vector for every id, with row-sparse gradients at any size.

    Row 0 (padding) is zero and stays zero under every optimizer of `retrank.optim`. Row 1 (unknown) starts at zero and
    is learned. All others start uniform in `[-scale, scale)`, drawn from torch's global generator.

    A list of ids is pooled: with weights w and vectors e, `mean` is Σwe / Σw, `sum` is Σwe, `sqrtn` is Σwe / √Σw².
    Without weights w is 1. `max` takes the largest number in each dimension, and no weights. Padding takes no part,
    not even in the count; a list whose denominator is 0, such as an empty one, gives zeros.

    With `dtype="bfloat16"` or `"float16"` the weights take half of the memory. Vectors and gradients are still
    float32, and so is the state of the optimizers of `retrank.optim`, which round weights up or down at random, so
    that steps too small for the dtype are taken on average. bfloat16 has the range of float32 and 8 bits of precision;
    float16 has 11, and values below 6e-8 are lost.

    Args:
        rows: the schema of an id column, or the number of rows with padding and unknown counted.
        dim: length of a vector.
        combiner: how lists are pooled.
        scale: half the width of the initial uniform distribution. With few rows to learn from, a model that only
            multiplies vectors starts faster from larger ones, say 0.5; on MovieLens ratings they are worse.
        l2: factor of `penalty`.
        name: for messages; the schema's column by default.
        dtype: of the weights; half precision needs torch 2.10 or newer.

    Raises:
        ConfigError: an argument out of range, the schema of a number column, or half precision with an older torch.

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
        dtype: TableDtype = "float32",
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, l2=l2, name=name)
        if not scale >= 0:
            raise self._config_error("scale >= 0", f"scale={scale}")
        if dtype not in get_args(TableDtype):
            raise self._config_error(f"dtype in {list(get_args(TableDtype))}", repr(dtype))
        if dtype != "float32" and not _TORCH_KNOWS_GRAD_DTYPE:
            raise self._config_error("torch 2.10 or newer, for half precision", torch.__version__)
        self.scale, self.dtype = scale, dtype
        self.weight = nn.Parameter(self._new_rows(self._num_ids))
        self.weight.data[:NUM_SPECIAL_IDS] = 0

    def to_int8(self) -> Int8Table:
        """Make a table for serving out of this one: a byte per number; see `Int8Table`.

        Returns:
            A table of its own, on the same device.

        Raises:
            DataError: a weight is not finite.
        """
        table = Int8Table(self.num_ids, self.dim, combiner=self.combiner, l2=self.l2, name=self.name)
        table.to(self.weight.device).quantize_(self.weight.detach())
        return table

    def rows(self) -> Rows | None:
        """Return the weights, unless they are rounded or lists are pooled by the maximum; see `Table.rows`."""
        return None if self.dtype != "float32" or self.combiner == "max" else Rows(self.weight, self.combiner)

    def extra_repr(self) -> str:
        """Describe the table within torch's module listing."""
        return super().extra_repr() + ("" if self.dtype == "float32" else f", dtype='{self.dtype}'")

    def _grow(self, num_ids: int) -> None:
        weights = torch.cat([self.weight.data, self._new_rows(num_ids - self.num_ids)])
        self.weight.grad = None
        # While an earlier loss is referenced, autograd keeps the node that accumulates the gradient, and with it the
        # old shape. A change of dtype drops that node.
        other = torch.float32 if weights.dtype == torch.float16 else torch.float16
        self.weight.data = weights.new_empty(0, dtype=other)
        self.weight.data = weights

    def _look_up(self, ids: Tensor) -> Tensor:
        return gather(self.weight, ids, dtype=None if self.dtype == "float32" else torch.float32)

    def _pool(self, lists: Jagged) -> Tensor:
        lookup = self._row_lookup(lists)
        return super()._pool(lists) if lookup is None else concatenate_lookups([lookup])

    def _new_rows(self, count: int) -> Tensor:
        like = getattr(self, "weight", None)
        kind = {"dtype": getattr(torch, self.dtype)} if like is None else {"dtype": like.dtype, "device": like.device}
        rows = torch.empty(count, self.dim, **kind)
        if self.dtype == "float32":
            return rows.uniform_(-self.scale, self.scale)
        for block in torch.split(rows, _DRAWN_ROWS):
            block.copy_(torch.empty_like(block, dtype=torch.float32).uniform_(-self.scale, self.scale))
        return rows
