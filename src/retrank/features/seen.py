"""`Seen`: what a query has, in no order, in the ids of the candidates."""

from typing import final

import polars as pl

from retrank.core.jagged import Jagged
from retrank.data.keys import Nulls
from retrank.features.candidate_lists import CandidateLists

__all__ = ["Seen"]


@final
class Seen(CandidateLists):
    """A column of lists of keys in no order, as a `Jagged` of ids in the vocabulary of another feature.

    For interactions without times, and wherever taste says more than what came last: `rr.data.with_seen_candidates`
    gives each interaction what else its query has, and a `Recommender` reads from its history all that a query has.

    Args:
        of: the feature whose vocabulary the keys are in, e.g. `"movie_id"`.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in a
            list id 1.
        column: the column to read; the feature's name by default.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"user": ["a", "a", "b"], "film": ["Big", "Heat", "Big"]})
        >>> views = rr.data.with_seen_candidates(views, query="user", candidate="film", length=20)
        >>> space = rr.FeatureSpace({"film": rr.features.Categorical(), "seen": rr.features.Seen("film")}).fit(views)
        >>> space.transform(views)["seen"].to_lists()
        [[3], [2], []]
    """

    def __init__(self, of: str, *, nulls: Nulls = "error", column: str | None = None) -> None:
        super().__init__(of, nulls, column)

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn lists of keys into a `Jagged` of ids; see `Feature.transform`."""
        return self._jagged(values)
