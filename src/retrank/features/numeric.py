"""Numbers as numbers: rescaled, normalized, or on a log scale."""

import math
from abc import abstractmethod
from typing import ClassVar, Final, final

import numpy as np
import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.arguments import check_number
from retrank.core.errors import DataError, StorageError
from retrank.core.schema import ColumnSchema
from retrank.core.values import checked
from retrank.data.blocks import in_blocks
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.numbers import FLOAT32_MAX, Floats, Floats32, known_numbers, read_numbers, to_float32
from retrank.features.state import State
from retrank.features.statistics import Agreement, Moments, Summary

__all__ = ["Log", "Normalized", "NumberFeature", "Rescaled"]

_LEAST_VARIANCE: Final = 1e-300  # with fewer digits below


class _MeanAndVariance(TypedDict):
    mean: float
    variance: float


class NumberFeature(Feature):
    """A kind that reads one number a row and emits one number a row.

    Args:
        fill: the number that stands for null, NaN and infinity; None refuses them.
        column: the column to read; the feature's name by default.
    """

    emits: ClassVar[Emits] = "numbers"
    least: ClassVar[float] = -math.inf
    """Smaller numbers are refused."""
    limit: ClassVar[float] = math.inf
    """Numbers of a greater absolute value are refused."""

    def __init__(self, fill: float | None, column: str | None) -> None:
        super().__init__(column)
        check_number(fill, "fill", type(self).__name__, least=self.least)
        self.fill = fill

    @abstractmethod
    def _convert(self, numbers: Floats) -> Floats:
        """Turn raw numbers into what the model sees, both `(rows,)` float64."""

    def _to_float32(self, values: pl.Series) -> Floats32:
        numbers = read_numbers(values, self.fill, limit=self.limit)
        if len(numbers) and numbers.min() < self.least:
            row = int((numbers < self.least).argmax())
            where, fix = f"column '{values.name}'", "clip or shift the column"
            raise DataError(f"a number >= {self.least:g}", f"{numbers[row]:g}", where, fix, row=row)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
            return to_float32(self._convert(numbers), numbers, values.name)

    def summarize(self, values: pl.Series) -> Summary:
        """Check the numbers and what becomes of them; see `Feature.summarize`."""
        in_blocks(values, np.float32, self._to_float32)
        return Agreement()

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002
        """Turn numbers into `(rows,)` float32, computed in float64; see `Feature.transform`."""
        return torch.from_numpy(in_blocks(values, np.float32, self._to_float32))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the number; see `Feature.schema`."""
        return ColumnSchema(name, "number")


@final
class Rescaled(NumberFeature):
    """A number as `number * scale + offset`.

    Args:
        scale: the factor.
        offset: the term.
        fill: the raw number that stands for null, NaN and infinity; None refuses them.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: an argument is not finite.

    Example:
        >>> import polars as pl, retrank as rr
        >>> stars = pl.DataFrame({"rating": [1, 3, 5]})
        >>> rr.FeatureSpace({"rating": rr.features.Rescaled(1 / 4, -1 / 4)}).fit(stars).transform(stars)["rating"]
        tensor([0.0000, 0.5000, 1.0000])

    Source: `float_rescaled` of Keras' FeatureSpace.
    """

    def __init__(
        self, scale: float = 1.0, offset: float = 0.0, *, fill: float | None = None, column: str | None = None
    ) -> None:
        super().__init__(fill, column)
        check_number(scale, "scale", "Rescaled")
        check_number(offset, "offset", "Rescaled")
        self.scale, self.offset = scale, offset

    def _convert(self, numbers: Floats) -> Floats:
        return numbers * self.scale + self.offset


@final
class Normalized(NumberFeature):
    """A number minus the mean of the fitted column, divided by its standard deviation (population variance).

    If all fitted numbers are equal they become 0, and other numbers their plain difference from them. Numbers beyond
    float32 are refused, as are fitted ones that lie so close together that their variance is 0 in float64.

    Args:
        fill: the raw number that stands for null, NaN and infinity, which the statistics leave out; None refuses them.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `fill` is not finite.

    Example:
        >>> import polars as pl, retrank as rr
        >>> people = pl.DataFrame({"age": [20, 30, 40]})
        >>> rr.FeatureSpace({"age": rr.features.Normalized()}).fit(people).transform(people)["age"]
        tensor([-1.2247,  0.0000,  1.2247])

    Source: `float_normalized` of Keras' FeatureSpace, which divides by 1e-7 where all numbers are equal.
    """

    limit: ClassVar[float] = FLOAT32_MAX

    def __init__(self, *, fill: float | None = None, column: str | None = None) -> None:
        super().__init__(fill, column)
        self._mean_and_variance: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """The mean of the fitted column."""
        return fitted(self._mean_and_variance, self)[0]

    @property
    def variance(self) -> float:
        """The population variance of the fitted column."""
        return fitted(self._mean_and_variance, self)[1]

    def summarize(self, values: pl.Series) -> Moments:
        """Measure mean and variance of a part; see `Feature.summarize`."""
        return Moments.of(known_numbers(values, self.fill, limit=self.limit))

    def learn(self, summary: Summary, *, where: str) -> None:
        """Keep mean and variance; see `Feature.learn`.

        Raises:
            DataError: there is no number, or numbers that differ have a variance that float64 takes for 0.
        """
        assert isinstance(summary, Moments)
        if not summary.count:
            raise DataError("at least one number", "none", where)
        if summary.differ and summary.variance < _LEAST_VARIANCE:
            got = f"a variance of {summary.variance:g}"
            raise DataError("numbers that are equal, or differ by more than 1e-150", got, where, "rescale the column")
        self._mean_and_variance = (summary.mean, summary.variance)

    def _convert(self, numbers: Floats) -> Floats:
        return (numbers - self.mean) / (math.sqrt(self.variance) or 1.0)

    def state(self) -> State:
        """Return mean and variance; see `Feature.state`."""
        return State({"mean": self.mean, "variance": self.variance}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over mean and variance; see `Feature.load_state`."""
        found = checked(state.values, _MeanAndVariance, where)
        if found["variance"] < 0:
            raise StorageError("a variance of at least 0", str(found["variance"]), where, "restore the directory")
        self._mean_and_variance = (float(found["mean"]), float(found["variance"]))


@final
class Log(NumberFeature):
    """A number from 0 up as `log(1 + number)`, for counts and prices with a long tail.

    Args:
        fill: the raw number that stands for null, NaN and infinity; None refuses them.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `fill` is negative or not finite.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"votes": [0, 9, 99]})
        >>> rr.FeatureSpace({"votes": rr.features.Log()}).fit(films).transform(films)["votes"]
        tensor([0.0000, 2.3026, 4.6052])
    """

    least: ClassVar[float] = 0.0

    def __init__(self, *, fill: float | None = None, column: str | None = None) -> None:
        super().__init__(fill, column)

    def _convert(self, numbers: Floats) -> Floats:
        return np.log1p(numbers)
