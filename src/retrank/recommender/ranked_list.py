"""`RankedList`: the answer to one request, for services."""

from dataclasses import dataclass
from typing import Literal, final

from retrank.recommender.request import Key

__all__ = ["RankedList", "Stage"]

Stage = Literal["ranking", "retrieval", "similar", "popularity"]
"""Which stage gave the scores of a list."""


@final
@dataclass(frozen=True, slots=True)
class RankedList:
    """The candidates for one request, best first.

    Args:
        keys: their keys.
        scores: their float32 scores, as Python's floats of the same value; those of the last stage, with what boosts
            add. They descend, unless diversity or exploration has chosen.
        rows: their rows of `Recommender.catalogue`.
        stage: which stage gave the scores: "ranking", "retrieval", "similar" where candidates are compared with what a
            query says that it has done, or "popularity" where too little is known of it.

        probabilities: with which each candidate was to be in its place; 1 but where chance had a say, see
            `Exploration`.

    Example:
        >>> import retrank as rr
        >>> found = rr.recommender.RankedList(["y", "x"], [1.5, 0.25], [1, 0], "retrieval", [1.0, 1.0])
        >>> len(found), found.keys[0]
        (2, 'y')
    """

    keys: list[Key]
    scores: list[float]
    rows: list[int]
    stage: Stage
    probabilities: list[float]

    def __len__(self) -> int:
        return len(self.keys)
