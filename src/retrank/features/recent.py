"""`Recent`: what a query did last, in the ids of the candidates."""

from collections.abc import Mapping
from typing import ClassVar, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.arguments import check_count, check_number
from retrank.core.jagged import Jagged
from retrank.data.keys import Nulls
from retrank.features.candidate_lists import CandidateLists

__all__ = ["Recent"]


@final
class Recent(CandidateLists):
    """A column of lists of keys, the latest last, as a `Jagged` of ids in the vocabulary of another feature.

    Each id has a weight, 1 for the latest and less for older ones, that pooled embeddings honour. Where interactions
    have no times there is no latest one: use `Seen`.

    Args:
        of: the feature whose vocabulary the keys are in, e.g. `"movie_id"`.
        length: at most this many keys, the last of a longer list; None keeps all. A `Recommender` that reads from its
            history what a query did last gives at most this many, or as many as the longest list in training.
        decay: the weight of a key with n later ones is `exp(-decay * n) / (1 + n) ** power`.
        power: `decay` forgets at one pace; with a power the last few keys stand out, and old ones still count.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in a
            list id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `length` below 1 or a negative `decay` or `power`.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"film": ["Big", "Heat", "Heat"], "recent": [[], ["Big"], ["Big", "Heat"]]})
        >>> kinds = {"film": rr.features.Categorical(), "recent": rr.features.Recent("film", decay=0.7)}
        >>> recent = rr.FeatureSpace(kinds).fit(views).transform(views)["recent"]
        >>> recent.to_lists(), recent.weights
        ([[], [3], [3, 2]], tensor([1.0000, 0.4966, 1.0000]))
    """

    former_arguments: ClassVar[Mapping[str, str]] = {"max_length": "length"}

    def __init__(
        self,
        of: str,
        *,
        length: int | None = None,
        decay: float = 0.0,
        power: float = 0.0,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        super().__init__(of, nulls, column)
        check_count(length, "length", "Recent")
        check_number(decay, "decay", "Recent", least=0)
        check_number(power, "power", "Recent", least=0)
        self.length, self.decay, self.power = length, decay, power
        self._weights = torch.zeros(0)  # of a long list, oldest first: a request reads the end of it

    @property
    def num_recent(self) -> int | None:
        """How many recent candidates a query may have: `length`, else as many as there were in training."""
        return self.longest if self.length is None else self.length

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn lists of keys into a `Jagged` of ids with weights, oldest first; see `Feature.transform`."""
        if self.length is not None and isinstance(values.dtype, pl.List):
            values = values.list.tail(self.length)
        return self.weighted(self._jagged(values))

    def weighted(self, recent: Jagged) -> Jagged:
        """Give each id its weight.

        Args:
            recent: ids, the latest last, at most `num_recent` per row.

        Returns:
            The same ids with weights.
        """
        if len(recent) == 1:  # a request
            return Jagged.unchecked(recent.values, recent.offsets, self._oldest_first(len(recent.values)))
        later = recent.offsets[1:][recent.row_index()] - torch.arange(1, len(recent.values) + 1)
        weights = self._oldest_first(int(recent.lengths().max()) if len(recent) else 0)
        return Jagged.unchecked(recent.values, recent.offsets, weights[len(weights) - 1 - later])

    def _oldest_first(self, count: int) -> Tensor:
        """Return `(count,)` the weights of a list of so many keys."""
        weights = self._weights
        if len(weights) < count:
            with torch.inference_mode(mode=False):  # it may be read in training, too
                later = torch.arange(2 * count - 1, -1, -1, dtype=torch.float64)  # rounds alike in tables of any length
                made = torch.exp(-self.decay * later) * (1.0 + later) ** -self.power
                self._weights = weights = made.float()
        return weights[len(weights) - count :]
