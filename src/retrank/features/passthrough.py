"""Numbers that stay as they are: labels, weights, ready-made vectors."""

import math
from typing import ClassVar, final

import numpy as np
import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.arguments import check_number
from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.core.schema import ColumnSchema
from retrank.core.values import checked
from retrank.data.keys import Nulls, check_nulls, holds_nothing
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.list_columns import flatten
from retrank.features.numbers import FLOAT32_MAX, Floats32, read_numbers, to_float32
from retrank.features.state import State
from retrank.features.statistics import Agreement, Summary

__all__ = ["Passthrough"]


class _Width(TypedDict):
    width: int


@final
class Passthrough(Feature):
    """A number, or a list of as many numbers in every row, as float32.

    A label that some rows lack, such as one of several tasks, has `nulls="unknown"`: null and NaN become NaN, which
    `rr.models.MultiTaskRanking` leaves out of that label's loss and metrics. No model takes such a feature as input.

    Booleans become 0 and 1. Integers beyond 2**24 are rounded, as float32 does, and numbers beyond 3.4e38 are refused.
    A column of lists or arrays, such as vectors of another model, becomes `(rows, width)`; fitting learns the width.

    Args:
        fill: the number that stands for null, NaN and infinity; None refuses them. A null list is always refused.
        nulls: "error" refuses null and NaN unless there is a `fill`; "unknown" makes them NaN, and refuses infinity.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `fill` is not finite, or beyond float32; or `fill` beside `nulls="unknown"`.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"rating": [4, 5], "vector": [[0.5, 1.0], [2.0, 0.0]]})
        >>> space = rr.FeatureSpace({name: rr.features.Passthrough() for name in films.columns}).fit(films)
        >>> space.transform(films, ["rating"])["rating"], space.schema["vector"].width
        (tensor([4., 5.]), 2)
    """

    emits: ClassVar[Emits] = "numbers"

    def __init__(self, *, fill: float | None = None, nulls: Nulls = "error", column: str | None = None) -> None:
        super().__init__(column)
        check_number(fill, "fill", "Passthrough", least=-FLOAT32_MAX, most=FLOAT32_MAX)
        check_nulls(nulls, "Passthrough")
        if nulls == "unknown" and fill is not None:
            fix = "a null is one or the other"
            raise ConfigError("fill= or nulls='unknown'", f"both, fill={fill}", "Passthrough", fix)
        self.fill, self.nulls = fill, nulls
        self._width: int | None = None

    def _read(self, values: pl.Series) -> tuple[Floats32, int]:
        if holds_nothing(values) and self._width is not None:  # whatever its type, it may be one of numbers
            is_list = self._width > 1
        else:
            is_list = isinstance(values.dtype, pl.List | pl.Array)
        if not is_list:
            return self._to_float32(values, 1), 1
        lists = flatten(values, "unknown")
        width = int(lists.lengths[0]) if len(lists.lengths) else (self._width or 1)
        uneven = (lists.lengths != width) | (lists.lengths == 0)
        if uneven.any():
            row = int(uneven.argmax())
            got = "null" if values[row] is None else f"{lists.lengths[row]} beside {width}"
            raise DataError("equally many numbers in every list", got, f"column '{values.name}'", row=row)
        return self._to_float32(lists.values, width), width

    def _to_float32(self, values: pl.Series, width: int) -> Floats32:
        if self.nulls == "error":
            numbers = read_numbers(values, self.fill, width=width)
            return to_float32(numbers, numbers, values.name, width=width)
        numbers = read_numbers(values, math.nan, width=width)
        if values.dtype.is_float() and values.is_infinite().any():
            place = int(values.is_infinite().arg_max() or 0)
            expected, where = "a finite number, null or NaN", f"column '{values.name}'"
            raise DataError(expected, str(values[place]), where, "drop the row", row=place // width)
        unknown = np.isnan(numbers)
        made = to_float32(np.where(unknown, 0, numbers), numbers, values.name, width=width)
        made[unknown] = math.nan
        return made

    def summarize(self, values: pl.Series) -> Agreement:
        """Check the numbers and tell the width; see `Feature.summarize`."""
        return Agreement(self._read(values)[1])

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Keep the width; see `Feature.learn`."""
        assert isinstance(summary, Agreement)
        self._width = int(summary.fact)

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002
        """Turn numbers into float32, `(rows,)` or `(rows, width)`; see `Feature.transform`."""
        expected = fitted(self._width, self)
        numbers, width = self._read(values)
        if width != expected:
            raise DataError(f"{expected} numbers per row, as it was fitted on", str(width), f"column '{values.name}'")
        tensor = torch.from_numpy(numbers)
        return tensor if width == 1 else tensor.view(-1, width)

    def schema(self, name: str) -> ColumnSchema:
        """Describe the numbers; see `Feature.schema`."""
        return ColumnSchema(name, "number", width=fitted(self._width, self), may_be_nan=self.nulls == "unknown")

    def state(self) -> State:
        """Return the width; see `Feature.state`."""
        return State({"width": fitted(self._width, self)}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over a width; see `Feature.load_state`."""
        width = checked(state.values, _Width, where)["width"]
        if width < 1:
            raise StorageError("a width of at least 1", repr(width), where, "restore the directory")
        self._width = width
