"""Numbers as the ids of intervals, with given or fitted boundaries."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.arguments import check_count, check_number
from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.core.values import checked
from retrank.data.blocks import in_blocks
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.numbers import Floats, known_numbers, read_numbers
from retrank.features.state import State
from retrank.features.statistics import Agreement, Summary, ValueCounts

__all__ = ["BinFeature", "Bucketized", "Discretized", "places_among"]

_FEW: Final = 32


class _Boundaries(TypedDict):
    boundaries: list[float]


class BinFeature(Feature):
    """A kind that emits the interval in which a number lies.

    Args:
        fill: the raw number that stands for null, NaN and infinity; None refuses them.
        column: the column to read; the feature's name by default.
    """

    emits: ClassVar[Emits] = "ids"

    def __init__(self, fill: float | None, column: str | None) -> None:
        super().__init__(column)
        check_number(fill, "fill", type(self).__name__)
        self.fill = fill

    @property
    @abstractmethod
    def boundaries(self) -> Floats:
        """`(bins - 1,)` ascending float64; a number equal to a boundary belongs to the bin above it."""

    @property
    @abstractmethod
    def bins(self) -> int:
        """The number of bins."""

    def transform(self, values: pl.Series, name: str) -> Tensor:  # noqa: ARG002
        """Turn numbers into `(rows,)` int64 ids, 2 for the lowest bin; see `Feature.transform`."""
        boundaries = self.boundaries

        def convert(block: pl.Series) -> npt.NDArray[np.int64]:
            return NUM_SPECIAL_IDS + places_among(boundaries, read_numbers(block, self.fill))

        return torch.from_numpy(in_blocks(values, np.int64, convert))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", num_ids=self.bins + NUM_SPECIAL_IDS)


@final
class Discretized(BinFeature):
    """A number as one of `bins` intervals that hold equally many of the fitted numbers.

    Boundaries are quantiles, exact up to 262,144 different numbers (see `ValueCounts`). Where many numbers are equal,
    boundaries coincide and the bins between them stay empty.

    Args:
        bins: number of intervals, at least 2; ids run from 2 to `bins + 1`.
        fill: the raw number that stands for null, NaN and infinity, which the quantiles leave out; None refuses them.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `bins` below 2, or `fill` is not finite.

    Example:
        >>> import polars as pl, retrank as rr
        >>> people = pl.DataFrame({"age": [18, 25, 31, 44, 52, 67]})
        >>> rr.FeatureSpace({"age": rr.features.Discretized(3)}).fit(people).transform(people)["age"]
        tensor([2, 3, 3, 4, 4, 4])

    Source: `float_discretized` of Keras' FeatureSpace, with the same boundaries up to 100 numbers; beyond, Keras
    approximates by a summary of 100 values.
    """

    def __init__(self, bins: int, *, fill: float | None = None, column: str | None = None) -> None:
        super().__init__(fill, column)
        check_count(bins, "bins", "Discretized", least=2)
        self._bins = bins
        self._boundaries: Floats | None = None

    @property
    def bins(self) -> int:
        """The number of bins."""
        return self._bins

    @property
    def boundaries(self) -> Floats:
        """The fitted quantiles, fewer than `bins - 1` if fewer than `bins` numbers were seen."""
        return fitted(self._boundaries, self)

    def summarize(self, values: pl.Series) -> ValueCounts:
        """Count the numbers of a part; see `Feature.summarize`."""
        return ValueCounts.of(known_numbers(values, self.fill))

    def learn(self, summary: Summary, *, where: str) -> None:
        """Keep the quantiles; see `Feature.learn`.

        Raises:
            DataError: there is no number.
        """
        assert isinstance(summary, ValueCounts)
        if not len(summary.values):
            raise DataError("at least one number", "none", where)
        self._boundaries = summary.quantiles(self.bins)

    def state(self) -> State:
        """Return the boundaries; see `Feature.state`."""
        return State({"boundaries": self.boundaries.tolist()}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over boundaries; see `Feature.load_state`."""
        boundaries = np.array(checked(state.values, _Boundaries, where)["boundaries"], dtype=np.float64)
        if len(boundaries) >= self.bins or (np.diff(boundaries) < 0).any():
            got = f"{len(boundaries)} boundaries"
            raise StorageError(f"ascending boundaries of {self.bins} bins", got, where, "restore the directory")
        self._boundaries = boundaries


@final
class Bucketized(BinFeature):
    """A number as one of the intervals between given boundaries.

    Args:
        boundaries: strictly ascending; n boundaries make n + 1 bins.
        fill: the raw number that stands for null, NaN and infinity; None refuses them.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: no boundaries, or they do not ascend.

    Example:
        >>> import polars as pl, retrank as rr
        >>> people = pl.DataFrame({"age": [10, 18, 40, 65]})
        >>> rr.FeatureSpace({"age": rr.features.Bucketized([18, 65])}).fit(people).transform(people)["age"]
        tensor([2, 3, 3, 4])

    Source: `float_discretized` with `bin_boundaries` of Keras' FeatureSpace.
    """

    def __init__(self, boundaries: Sequence[float], *, fill: float | None = None, column: str | None = None) -> None:
        super().__init__(fill, column)
        for boundary in boundaries:
            check_number(boundary, "boundary", "Bucketized")
        self._boundaries: Floats = np.array(boundaries, dtype=np.float64)
        if not len(self._boundaries) or not (np.diff(self._boundaries) > 0).all():
            raise ConfigError("strictly ascending numbers", str(list(boundaries)), "Bucketized")
        if not isinstance(boundaries, list | tuple):  # the configuration must be JSON-able
            raise ConfigError("a list of numbers", type(boundaries).__name__, "Bucketized", "use .tolist()")

    @property
    def bins(self) -> int:
        """The number of bins."""
        return len(self._boundaries) + 1

    @property
    def boundaries(self) -> Floats:
        """The given boundaries."""
        return self._boundaries

    def summarize(self, values: pl.Series) -> Agreement:
        """Check the numbers; see `Feature.summarize`."""
        read_numbers(values, self.fill)
        return Agreement()


def places_among(boundaries: Floats, numbers: Floats) -> npt.NDArray[np.int64]:
    """Count the boundaries up to each number.

    Args:
        boundaries: `(n,)` ascending.
        numbers: `(rows,)` finite; a block that fits in the cache.

    Returns:
        `(rows,)` what `numpy.searchsorted(boundaries, numbers, side="right")` does, faster where n is small.
    """
    if len(boundaries) > _FEW:
        return np.searchsorted(boundaries, numbers, side="right").astype(np.int64)
    places = np.zeros(len(numbers), dtype=np.uint8)
    for boundary in boundaries:
        places += numbers >= boundary
    return places.astype(np.int64)
