"""`Int8Table`: a table for serving, a byte per number."""

from typing import Final, NoReturn, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.pooling import Combiner
from retrank.embeddings.table import Table

__all__ = ["BYTES_A_ROW", "Int8Table"]

BYTES_A_ROW: Final = 8
"""What a row takes in addition to its codes: a scale and an offset."""
_LEVELS: Final = 255
_BLOCK: Final = 65_536  # rows that are quantized at once


@final
class Int8Table(Table):
    """A table whose rows are codes of 8 bits, with a scale and an offset each: number = offset + scale · code.

    A row takes `dim` + 8 bytes instead of 4 `dim`. The offset is the smallest number of the row, and the scale divides
    the rest into 255 steps, so that no number is off by more than half a step; a row of equal numbers, such as the
    zeros of padding, is exact. Vectors are float32. It is not trained: make it of a trained table, by
    `EmbeddingTable.to_int8`, or of all tables of a model, by `quantized`. A new one is zeros.

    Args:
        rows: the schema of an id column, or the number of rows with padding and unknown counted.
        dim: length of a vector.
        combiner: how lists are pooled, see `EmbeddingTable`.
        l2: factor of `penalty`, for losses that compare with those of the trained table.
        name: for messages; the schema's column by default.

    Raises:
        ConfigError: an argument out of range, or the schema of a number column; when called in training mode with
            gradients, or when grown.

    Example:
        >>> import torch, retrank as rr
        >>> table = rr.EmbeddingTable(1_000, 64)
        >>> served = table.to_int8()
        >>> sum(tensor.nbytes for tensor in table.state_dict().values())
        256000
        >>> sum(tensor.nbytes for tensor in served.state_dict().values())
        72000
        >>> ids = torch.arange(1_000)
        >>> bool((served(ids) - table(ids)).abs().max() <= 0.1 / 255 / 2 + 1e-7)
        True

    Source: the rows of 8 bits of FBGEMM and TorchRec, with scale and offset in float32 as there.
    """

    codes: Tensor
    """`(num_ids, dim)` uint8."""
    steps: Tensor
    """`(num_ids, 2)` float32: the scale and the offset of each row."""

    def __init__(
        self,
        rows: ColumnSchema | int,
        dim: int,
        *,
        combiner: Combiner = "mean",
        l2: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(rows, dim, combiner=combiner, l2=l2, name=name)
        self.register_buffer("codes", torch.zeros(self.num_ids, dim, dtype=torch.uint8))
        self.register_buffer("steps", torch.zeros(self.num_ids, 2))
        self.training = False

    def quantize_(self, weight: Tensor) -> None:
        """Take the numbers of another table.

        Args:
            weight: `(num_ids, dim)`, of any floating dtype.

        Raises:
            ShapeError: another shape.
            DataError: a number that is not finite.
        """
        if weight.shape != self.codes.shape:
            raise ShapeError(str(tuple(self.codes.shape)), str(tuple(weight.shape)), self._where)
        for start in range(0, len(weight), _BLOCK):
            numbers = weight[start : start + _BLOCK].float()
            low, high = numbers.amin(dim=1, keepdim=True), numbers.amax(dim=1, keepdim=True)
            scale = (high - low) / _LEVELS
            if len(bad := (~scale.isfinite()).nonzero()):
                row = start + int(bad[0, 0])
                raise DataError("finite weights", "others", f"{self._where}, row {row}", "train with a smaller lr")
            codes = (numbers - low).div_(scale.masked_fill(scale == 0, 1)).round_().clamp_(0, _LEVELS)
            self.codes[start : start + _BLOCK] = codes.to(torch.uint8)
            self.steps[start : start + _BLOCK] = torch.cat([scale, low], dim=1)

    @property
    def _where(self) -> str:
        return f"Int8Table '{self.name}'"

    def _look_up(self, ids: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            self._refuse("a table that learns", "train the model whose tables were quantized; call eval() to serve")
        rows = ids.flatten()
        steps = self.steps.index_select(0, rows)
        codes = self.codes.index_select(0, rows).to(steps.dtype)
        return torch.addcmul(steps[:, 1:], codes, steps[:, :1]).reshape(*ids.shape, self.dim)

    def _grow(self, num_ids: int) -> None:
        self._refuse(f"a table that grows, to {num_ids} ids", "grow the table it was made of, then quantize that")

    def _refuse(self, expected: str, fix: str) -> NoReturn:
        raise ConfigError(expected, "codes of 8 bits, for serving only", self._where, fix)
